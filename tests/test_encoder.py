import pytest
import torch
from torch import nn

import segcore
from segcore import EncoderMixin, OptionValueError, SegcoreError
from segcore.encoder import adapt_input_weight
from segcore.testing import TinyEncoder


class Recipe(nn.Module, EncoderMixin):
    """Written to the documented recipe, with nothing else."""

    def __init__(self, depth=3, in_channels=3):
        super().__init__()
        self._out_channels = [3, 8, 16, 24]
        self._depth = depth
        self._in_channels = 3
        widths = self._out_channels
        self.stages = nn.ModuleList(nn.Conv2d(widths[i], widths[i + 1], 3, 2, 1) for i in range(depth))

    def forward(self, x):
        features = [x]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return features


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("decoder", ["unet", "fpn"])
def test_the_documented_recipe_works_as_it_is(depth, decoder):
    encoder = Recipe(depth)
    assert encoder.out_channels == (3, 8, 16, 24)[: depth + 1]
    assert encoder.strides == (1, 2, 4, 8)[: depth + 1]
    if decoder == "fpn" and depth < 3:
        return
    model = segcore.create_model(decoder, encoder, classes=2)
    assert model(torch.rand(2, 3, 33, 47)).shape == (2, 2, 33, 47)


@pytest.mark.parametrize("channels", [1, 4, 7])
def test_the_recipe_takes_other_numbers_of_channels(channels):
    model = segcore.create_model("unet", Recipe, in_channels=channels, encoder_depth=2)
    assert model.encoder.in_channels == channels
    assert model.encoder.out_channels == (channels, 8, 16)
    assert model(torch.rand(2, channels, 32, 32)).shape == (2, 1, 32, 32)


def test_a_recipe_that_honours_in_channels_without_saying_so():
    class Honours(Recipe):
        def __init__(self, depth=2, in_channels=3):
            super().__init__(depth)
            self.stages[0] = nn.Conv2d(in_channels, 8, 3, 2, 1)

    encoder = segcore.create_encoder(Honours, in_channels=4)
    assert (encoder.in_channels, encoder.out_channels) == (4, (4, 8, 16))
    assert encoder(torch.rand(1, 4, 8, 8))[1].shape == (1, 8, 4, 4)


def test_levels_that_are_missing_and_dilation():
    assert TinyEncoder(strides=(1, 4, 8, 16, 32)).strides == (1, 4, 8, 16, 32)
    assert TinyEncoder(strides=(1, 4, 8, 16, 32), depth=3).strides == (1, 4, 8)
    dilated = TinyEncoder(output_stride=8)
    assert (dilated.strides, dilated.output_stride) == ((1, 2, 4, 8, 8, 8), 8)


def test_set_in_channels_there_and_back():
    encoder = TinyEncoder().eval()
    encoder.set_in_channels(4)
    encoder.set_in_channels(3)  # a silent no-op elsewhere
    assert encoder(torch.rand(1, 3, 32, 32))[0].shape[1] == 3


def test_several_candidates_for_the_first_convolution_are_no_guess():
    class Two(Recipe):
        def __init__(self):
            super().__init__(1)
            self.other = nn.Conv2d(3, 8, 1)

    with pytest.raises(SegcoreError, match=r"2 convolutions .*_first_conv"):
        Two().set_in_channels(1)


@pytest.mark.parametrize("channels", range(1, 14))
def test_repeat_equals_timm(channels):
    from timm.models._manipulate import adapt_input_conv

    weight = torch.randn(5, 3, 3, 3)
    assert torch.equal(adapt_input_weight(weight, channels), adapt_input_conv(channels, weight))


def test_input_inits_say_what_they_keep():
    weight, image = torch.randn(5, 3, 3, 3), torch.rand(2, 3, 9, 9)
    plain = torch.conv2d(image, weight)
    wide = torch.cat([image, torch.rand(2, 2, 9, 9)], 1)
    torch.testing.assert_close(torch.conv2d(wide, adapt_input_weight(weight, 5, "rgb+zero")), plain)
    grey = image[:, :1]
    wanted = torch.conv2d(grey.repeat(1, 3, 1, 1), weight)
    for channels in (1, 2, 4, 5):
        got = torch.conv2d(grey.repeat(1, channels, 1, 1), adapt_input_weight(weight, channels, "mean"))
        torch.testing.assert_close(got, wanted)
    assert adapt_input_weight(weight, 7, "random").shape == (5, 7, 3, 3)
    assert adapt_input_weight(weight.half(), 2).dtype == torch.float16


def test_wrong_values_are_refused():
    with pytest.raises(OptionValueError, match="Did you mean 'repeat'"):
        adapt_input_weight(torch.zeros(1, 3, 1, 1), 4, "repeats")
    with pytest.raises(OptionValueError, match="at least one channel"):
        adapt_input_weight(torch.zeros(1, 3, 1, 1), 0)
