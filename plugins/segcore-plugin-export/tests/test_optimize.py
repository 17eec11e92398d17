"""An optimised model gives what its model gives, for every decoder by every family of encoders."""

import copy
import pickle
import platform
import subprocess
import sys

import pytest
import torch
from segcore_plugin_export import OptimizedModel, Report, optimize_for_inference
from torch import nn

import segcore
from segcore.testing import TinyDecoder, TinyEncoder

DECODERS = (
    "unet", "unetplusplus", "manet", "linknet", "fpn", "pspnet", "pan", "deeplabv3", "deeplabv3plus", "upernet",
    "segformer", "dpt",
)  # fmt: skip
SIZE = (2, 3, 64, 96)
CLOSE = 1e-5  # of the largest value; or three times as far from the result in double precision as eager is


def made(decoder, encoder, **options):
    """A model in evaluation mode whose norms do something."""
    if encoder.startswith("timm/"):
        segcore.guard_torchvision()
    torch.manual_seed(0)
    model = segcore.create_model(decoder, encoder, classes=3, **options).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    if decoder == "manet":  # its softmax is not scaled: with random weights it multiplies every rounding
        nn.init.normal_(model.decoder.center.top_conv.weight, std=0.001)
    return model


def quick(model, **options):
    return optimize_for_inference(model, torch.randn(SIZE), channels_last=True, repeats=0, **options)


def difference(model, optimized, *size):
    """How far both are from the result in double precision, as a share of the largest value of each output."""
    x = torch.randn(size)
    with torch.inference_mode():
        expected, got, exact = model(x), optimized(x), copy.deepcopy(model).double()(x.double())
    if isinstance(expected, torch.Tensor):
        expected, got, exact = (expected,), (got,), (exact,)
    assert type(got) is type(expected)
    assert [y.shape for y in got] == [y.shape for y in expected]
    assert {y.dtype for y in got} == {torch.float32}
    eager, ours = (
        max(float((y - z).abs().max() / z.abs().max()) for y, z in zip(found, exact, strict=True))
        for found in (expected, got)
    )
    return ours if ours > 3 * eager else min(ours, CLOSE)


def check(decoder, encoder, **options):
    model = made(decoder, encoder, **options)
    optimized = quick(model)
    assert not any("captured" in note for note in optimized.report.left), optimized.report
    assert difference(model, optimized, *SIZE) <= CLOSE
    return model, optimized


@pytest.mark.parametrize("decoder", DECODERS)
def test_every_decoder(decoder):
    _, optimized = check(decoder, "resnet18", aux_params={"classes": 4} if decoder == "fpn" else None)
    assert optimized.report.relative <= CLOSE


@pytest.mark.parametrize(
    ("decoder", "encoder"),
    [("unet", "efficientnet-b0"), ("segformer", "mit_b0"), ("fpn", "timm/mobilenetv3_small_050")],
)
def test_every_family(decoder, encoder):
    check(decoder, encoder)


@pytest.mark.slow
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("encoder", ["resnet50", "efficientnet-b0", "mit_b0", "timm/mobilenetv3_small_050"])
@pytest.mark.parametrize("decoder", DECODERS)
def test_every_decoder_by_every_family(decoder, encoder, legacy):
    options = {"encoder_depth": 4} if decoder == "dpt" else {}
    try:
        model = made(decoder, encoder, decoder_legacy=legacy, **options)
    except segcore.SegcoreError as error:
        pytest.skip(str(error))  # parts that do not fit together
    size = (1, 3, 256, 256)
    optimized = optimize_for_inference(model, torch.randn(size), repeats=0)
    assert not any("captured" in note for note in optimized.report.left)
    assert difference(model, optimized, *size) <= CLOSE
    assert difference(model, optimized, 2, 3, 259, 301) <= CLOSE


@pytest.mark.slow
def test_plain_transformers():
    model = made("dpt", "timm/vit_tiny_patch16_224")
    assert (
        difference(model, optimize_for_inference(model, torch.randn(1, 3, 224, 224), repeats=0), 1, 3, 224, 224) < CLOSE
    )


def test_other_sizes_batches_and_layouts():
    model, optimized = check("unet", "resnet18", decoder_legacy=True, aux_params={"classes": 2, "dropout": 0.5})
    for size in [(1, 3, 64, 64), (3, 3, 50, 71), (2, 3, 64, 96)]:
        assert difference(model, optimized, *size) <= CLOSE
    x = torch.randn(2, 3, 64, 96)
    strided = x.to(memory_format=torch.channels_last)
    torch.testing.assert_close(optimized(strided), optimized(x))
    torch.testing.assert_close(optimized.predict(x), optimized(x))


@pytest.mark.parametrize(("attention", "interpolation"), [(None, "bilinear"), ("scse", "nearest")])
def test_options_of_unet(attention, interpolation):
    check("unet", "resnet18", encoder_depth=3, decoder_attention=attention, decoder_interpolation=interpolation)


@pytest.mark.parametrize("norm", ["layernorm", "identity"])
def test_other_norms(norm):
    check("upernet", "resnet18", decoder_norm=norm)


def test_the_legacy_pyramid_is_rewritten():
    _, optimized = check("fpn", "resnet18", decoder_legacy=True, decoder_merge_policy="add")
    assert optimized.report.done["1x1 convolutions before a resize"] == 1
    assert optimized.report.done["3x3 convolutions before a doubling"] == 1


def test_tiled_convolutions():
    model = made("deeplabv3plus", "resnet18")  # output stride 16: dilated, 16x16 pixels
    optimized = optimize_for_inference(model, torch.randn(1, 3, 256, 256), repeats=0)
    assert difference(model, optimized, 1, 3, 256, 256) <= CLOSE
    assert optimized.report.done["3x3 convolutions by tiles (Winograd)"] > 0
    from segcore_plugin_export.winograd import _transformed, convolve

    for dilation, height, width in ((1, 2, 6), (2, 4, 12), (3, 12, 6)):
        x, weight, bias = torch.randn(2, 5, height, width), torch.randn(7, 5, 3, 3), torch.randn(7)
        expected = torch.conv2d(x, weight, bias, padding=dilation, dilation=dilation)
        torch.testing.assert_close(convolve(x, _transformed(weight), bias, dilation), expected, atol=1e-5, rtol=1e-4)


def test_spread_taps():
    model = made("deeplabv3plus", "resnet18")
    optimized = optimize_for_inference(model, torch.randn(SIZE), repeats=0)
    assert difference(model, optimized, *SIZE) <= CLOSE
    assert optimized.report.done["depthwise convolutions as sums of shifted maps"] == 2  # 12 and 18 of 6, 12, 18
    from segcore_plugin_export.spread import _taps, convolve

    x, weight = torch.randn(2, 5, 12, 9), torch.randn(5, 1, 3, 3)
    for bias in (None, torch.randn(5)):
        for dilation in (1, 8, 10, 12):
            expected = torch.conv2d(x, weight, bias, padding=dilation, dilation=dilation, groups=5)
            torch.testing.assert_close(convolve(x, _taps(weight), bias, dilation), expected)


def test_the_model_stays_as_it_is():
    model = made("linknet", "resnet18").train()
    before = copy.deepcopy(model.state_dict())
    optimized = quick(model)
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    state = model.state_dict()
    assert state.keys() == before.keys() == optimized.state_dict().keys()
    assert all(torch.equal(state[key], before[key]) for key in before)
    with torch.no_grad():
        next(model.parameters()).zero_()  # and training goes on without the copy
    assert next(optimized.parameters()).abs().max() > 0
    assert not optimized(torch.randn(SIZE)).requires_grad


def test_evaluation_mode_only():
    optimized = quick(made("unet", "resnet18", encoder_depth=2))
    assert not optimized.training
    with pytest.raises(segcore.InputError, match="cannot be trained"):
        optimized.train()
    assert optimized.eval() is optimized


def test_copies_and_pickles_make_their_own_plans():
    model = made("unet", "resnet18", encoder_depth=2)
    optimized = quick(model)
    x = torch.randn(SIZE)
    for other in (copy.deepcopy(optimized), pickle.loads(pickle.dumps(optimized))):
        assert str(other.report) == str(optimized.report)
        assert torch.equal(other(x), optimized(x))


def test_other_weights_are_used(tmp_path):
    model, other = made("unet", "resnet18", encoder_depth=2), made("unet", "resnet18", encoder_depth=2)
    nn.init.zeros_(other.segmentation_head[0].weight)
    nn.init.ones_(other.segmentation_head[0].bias)
    optimized = quick(model)
    optimized.load_state_dict(other.state_dict())
    assert torch.equal(optimized(torch.randn(SIZE)), torch.ones(2, 3, 64, 96))
    optimized.save_pretrained(tmp_path)
    assert torch.equal(segcore.from_pretrained(tmp_path).predict(torch.randn(SIZE)), torch.ones(2, 3, 64, 96))


def test_constants_are_shared_between_sizes():
    optimized = quick(made("unet", "resnet18", encoder_depth=2))
    before = len(optimized._memory)
    optimized(torch.randn(1, 3, 32, 32))
    assert len(optimized._memory) == before


def test_bfloat16_states_its_deviation():
    model = made("unet", "resnet18", encoder_depth=3)
    try:
        optimized = quick(model, dtype=torch.bfloat16)
    except segcore.OptionValueError as error:
        pytest.skip(str(error))
    found = difference(model, optimized, *SIZE)
    assert 1e-4 < found < 0.05
    assert 1e-4 < optimized.report.relative < 0.05


def test_a_model_that_looks_at_its_numbers_is_left_alone():
    class Looking(TinyDecoder):
        def forward(self, features):
            x = super().forward(features)
            return x if x.sum() > 0 else -x

    encoder = TinyEncoder()
    decoder = Looking(encoder.feature_info)
    model = segcore.SegmentationModel(encoder, decoder, decoder.default_head(classes=2)).eval()
    optimized = quick(model)
    assert any("captured" in note for note in optimized.report.left)
    assert difference(model, optimized, *SIZE) <= CLOSE
    with pytest.raises(segcore.InputError, match="only be optimised in float32"):
        quick(model, dtype=torch.bfloat16)


def test_inference_mode_changes_nothing():
    model = made("unet", "resnet18", encoder_depth=3)
    outside = quick(model)
    with torch.inference_mode():
        inside = quick(made("unet", "resnet18", encoder_depth=3))
        x = torch.randn(1, 3, 32, 64)
        assert torch.equal(inside(x), outside(x))
    assert inside.report.done == outside.report.done
    assert outside._notes[0] == outside.report.done  # of the plan for the size that came in inference mode


def test_what_was_measured_is_reported():
    optimized = optimize_for_inference(made("unet", "resnet18", encoder_depth=2), torch.randn(SIZE), repeats=1)
    assert isinstance(optimized, OptimizedModel)
    report = optimized.report
    assert isinstance(report, Report)
    assert report.sample == SIZE
    assert report.eager > 0
    assert report.speedup == report.eager / report.optimized
    assert report.done["batch norms folded"] == sum(isinstance(m, nn.BatchNorm2d) for m in optimized.modules())
    assert f"{report.speedup:.2f} times as fast" in str(report)


def test_memory_is_kept_where_the_c_library_can():
    code = "from segcore_plugin_export import keep_memory; print(keep_memory())"  # it holds for the whole process
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    glibc = platform.libc_ver()[0] == "glibc"
    assert done.stdout.strip() == str(glibc)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"dtype": torch.float16}, segcore.OptionValueError, "bfloat16"),
        ({"channels_last": "yes"}, segcore.OptionValueError, "channels_last"),
        ({"repeats": -1}, segcore.OptionValueError, "repeats"),
        ({"model": nn.Conv2d(3, 1, 1)}, segcore.InputError, "Conv2d"),
        ({"model": segcore.create_model("unet", "resnet18", encoder_depth=2).double()}, segcore.InputError, "float64"),
        ({"sample": torch.zeros(1, 4, 64, 64)}, segcore.InputError, "channels"),
        ({"sample": torch.zeros(1, 3, 64, 64).double()}, segcore.InputError, "float64"),
    ],
)
def test_what_does_not_fit_is_refused(change, error, says):
    given = {"model": made("unet", "resnet18", encoder_depth=2), "sample": torch.zeros(SIZE), "repeats": 0} | change
    with pytest.raises(error, match=says):
        optimize_for_inference(given.pop("model"), given.pop("sample"), **given)
