"""`TimmEncoder` over one network of every kind, against timm itself."""

import copy
import pickle

import pytest
import timm
import torch
from segcore_plugin_timm.net import TimmEncoder
from segcore_plugin_timm.net import _facts as facts
from torch import nn

from segcore import IncompatiblePartsError, InputError, OptionValueError, SegcoreError

slow = pytest.mark.slow

KINDS = [
    ("resnet18", {}),
    ("vit_tiny_patch16_224", {}),
    ("efficientnet_b0", {}),
    pytest.param("mobileone_s0", {}, marks=slow),
    ("swin_tiny_patch4_window7_224", {}),
    ("vgg11", {}),
    ("xception41", {}),
    pytest.param("convnext_atto", {}, marks=slow),
    pytest.param("mobilenetv3_small_050", {}, marks=slow),
    pytest.param("hrnet_w18_small", {}, marks=slow),
    pytest.param("dla34", {}, marks=slow),
    pytest.param("tresnet_m", {}, marks=slow),
    pytest.param("csatv2", {}, marks=slow),
    pytest.param("inception_v3", {}, marks=slow),
    pytest.param("legacy_xception", {}, marks=slow),
    pytest.param("pit_ti_224", {"img_size": 96}, marks=slow),
    pytest.param("crossvit_tiny_240", {}, marks=slow),
    pytest.param("levit_128s", {"img_size": (96, 128)}, marks=slow),
    pytest.param("maxvit_pico_rw_256", {"img_size": 128}, marks=slow),
    pytest.param("halonet26t", {}, marks=slow),
    pytest.param("nest_tiny_jx", {}, marks=slow),
    pytest.param("sedarknet21", {}, marks=slow),
    pytest.param("sequencer2d_s", {}, marks=slow),
    pytest.param("efficientvim_m1", {}, marks=slow),
    pytest.param("efficientvit_m0", {}, marks=slow),
    pytest.param("shvit_s1", {}, marks=slow),
    pytest.param("visformer_tiny", {"img_size": 96}, marks=slow),
    pytest.param("volo_d1_224", {"img_size": 96}, marks=slow),
    pytest.param("beit_base_patch16_224", {"img_size": 64}, marks=slow),
    pytest.param("cait_xxs24_224", {"img_size": 64}, marks=slow),
    pytest.param("convmixer_768_32", {}, marks=slow),
    pytest.param("eva02_tiny_patch14_224", {}, marks=slow),
    pytest.param("vit_small_patch14_dinov2", {}, marks=slow),
    pytest.param("vit_small_patch16_dinov3", {}, marks=slow),
    pytest.param("mixer_s16_224", {"img_size": 64}, marks=slow),
    pytest.param("naflexvit_base_patch16_gap", {}, marks=slow),
    pytest.param("tnt_s_legacy_patch16_224", {"img_size": 64}, marks=slow),
    pytest.param("xcit_nano_12_p8_224", {}, marks=slow),
    pytest.param("vit_relpos_small_patch16_224", {"img_size": 64}, marks=slow),
    pytest.param("samvit_base_patch16_224", {}, marks=slow),
    pytest.param("vitamin_small_224", {}, marks=slow),
    pytest.param("swinv2_cr_tiny_ns_224", {}, marks=slow),
    pytest.param("mambaout_femto", {}, marks=slow),
    pytest.param("coat_lite_tiny", {"img_size": 64}, marks=slow),
    pytest.param("gcvit_xxtiny", {"img_size": 64}, marks=slow),
    pytest.param("hiera_tiny_224", {"img_size": 64}, marks=slow),
    pytest.param("mvitv2_tiny", {}, marks=slow),
    pytest.param("pvt_v2_b0", {}, marks=slow),
    pytest.param("repvit_m0_9", {}, marks=slow),
    pytest.param("fastvit_t8", {}, marks=slow),
    pytest.param("nf_resnet26", {}, marks=slow),
    pytest.param("regnetx_002", {}, marks=slow),
    pytest.param("mobilenetv4_conv_small_050", {}, marks=slow),
    pytest.param("ghostnet_050", {}, marks=slow),
    pytest.param("skresnet18", {}, marks=slow),
    pytest.param("res2net50_14w_8s", {}, marks=slow),
    pytest.param("resnest14d", {}, marks=slow),
    pytest.param("dpn68", {}, marks=slow),
    pytest.param("densenet121", {}, marks=slow),
    pytest.param("nasnetalarge", {"depth": 3}, marks=slow),
    pytest.param("edgenext_xx_small", {}, marks=slow),
]


def image(encoder, channels=3, batch=1):
    """A small image that the encoder takes, not square where it may be."""
    if encoder._image_size:
        return torch.rand(batch, channels, *encoder._image_size)
    least = 32 if encoder._row.exact else 48  # unpadded stems need some room
    step = -(-least // encoder.size_multiple) * encoder.size_multiple
    return torch.rand(batch, channels, 2 * step if step < 100 else step, 3 * step if step < 100 else step)


def norms_have_room(module):
    """Whether batches of one are enough is not what is tested here: norms use their running statistics."""
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.eval()


@pytest.mark.parametrize(("name", "options"), KINDS)
def test_maps_have_the_listed_channels_and_sizes_and_every_parameter_learns(name, options):
    row = facts(name)
    for depth in (5, 4):
        encoder = TimmEncoder(name, **{"depth": depth} | options)
        norms_have_room(encoder)
        x = image(encoder)
        maps = encoder(x)
        if depth == 5 and "depth" not in options:
            assert (encoder.strides, encoder.out_channels) == (row.strides, row.channels)
            assert sum(parameter.numel() for parameter in encoder.parameters()) == row.parameters or options
        assert len(maps) == len(encoder.strides)
        for deep, channels, stride in zip(maps, encoder.out_channels, encoder.strides, strict=True):
            assert deep.shape == (1, channels, -(-x.shape[2] // stride), -(-x.shape[3] // stride))
        sum(deep.float().square().mean() for deep in maps).backward()
        dead = [key for key, value in encoder.named_parameters() if value.requires_grad and value.grad is None]
        assert dead == [], f"at depth {depth}"


@pytest.mark.parametrize(("name", "options"), KINDS)
def test_other_numbers_of_channels_and_the_meta_device(name, options):
    with torch.device("meta"):
        encoder = TimmEncoder(name, **options)
    assert all(value.is_meta for value in encoder.parameters())
    if facts(name).rgb_only:
        with pytest.raises(OptionValueError, match="takes 3"):
            TimmEncoder(name, in_channels=4)
        return
    with torch.device("meta"):
        other = TimmEncoder(name, in_channels=5, **options)
    assert other.in_channels == 5
    if encoder._first_conv:
        encoder.set_in_channels(5)
        assert {k: v.shape for k, v in encoder.state_dict().items()} == {
            k: v.shape for k, v in other.state_dict().items()
        }
        assert encoder.out_channels == other.out_channels
    else:
        with pytest.raises(SegcoreError, match="Build it with in_channels=5"):
            encoder.set_in_channels(5)


@pytest.mark.parametrize(
    ("name", "tu_indices"),
    [
        ("resnet18", (0, 1, 2, 3, 4)),
        ("swin_tiny_patch4_window7_224", (0, 1, 2, 3)),
        pytest.param("legacy_xception", (0, 1, 2, 3, 4), marks=slow),
        pytest.param("xception41", (0, 1, 2, 3, 4), marks=slow),
        pytest.param("tresnet_m", (1, 2, 3, 4), marks=slow),
        pytest.param("mobilenetv3_small_050", (0, 1, 2, 3, 4), marks=slow),
        pytest.param("gernet_s", (0, 1, 2, 3, 4), marks=slow),
    ],
)
def test_weights_of_timm_and_smp_load_and_give_timms_features(name, tu_indices):
    torch.manual_seed(0)
    features = timm.create_model(name, features_only=True, out_indices=tu_indices).eval()
    encoder = TimmEncoder(name).eval()
    state = {f"model.{key}": value for key, value in features.state_dict().items()}
    encoder.load_state_dict(encoder.convert_state_dict(state), strict=True)
    kwargs = {"img_size": 64} if "swin" in name else {}
    plain = timm.create_model(name, **kwargs).eval()
    published = TimmEncoder(name, depth=4, **kwargs).eval()
    published.load_state_dict(published.convert_state_dict(plain.state_dict()), strict=True)
    x = torch.rand(1, 3, 224, 224) if "swin" in name else torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        wanted, given = features(x), encoder(x)[-len(tu_indices) :]
        for theirs, have in zip(wanted, given, strict=True):
            want = theirs.permute(0, 3, 1, 2) if theirs.shape[1] != have.shape[1] else theirs
            if want.shape == have.shape:
                torch.testing.assert_close(have, want)
            else:
                assert name == "legacy_xception"
        if name == "resnet18":
            torch.testing.assert_close(published(x)[-1], plain.forward_intermediates(x, intermediates_only=True)[3])


def test_position_embeddings_of_another_grid_go_through_timms_filter():
    plain = timm.create_model("vit_tiny_patch16_224")
    encoder = TimmEncoder("vit_tiny_patch16_224", img_size=64)
    converted = encoder.convert_state_dict(plain.state_dict())
    assert converted["model.model.pos_embed"].shape == (1, 17, 192)
    encoder.load_state_dict(converted, strict=True)
    wrong = encoder.convert_state_dict({"some.other": torch.zeros(2)})
    assert set(wrong) < set(encoder.state_dict())


def test_weights_of_three_channels_fit_other_images():
    encoder = TimmEncoder("resnet18", depth=1, in_channels=4)
    state = encoder.convert_state_dict(timm.create_model("resnet18").state_dict())
    encoder.load_state_dict(encoder.adapt_input(state), strict=True)


@pytest.mark.parametrize("name", ["resnet18", pytest.param("mobilenetv3_small_050", marks=slow)])
@pytest.mark.parametrize("stride", [16, 8])
def test_dilation_is_timms(name, stride):
    encoder = TimmEncoder(name, output_stride=stride).eval()
    theirs = timm.create_model(name, features_only=True, output_stride=stride).eval()
    encoder.load_state_dict(encoder.convert_state_dict(theirs.state_dict()), strict=True)
    x = torch.rand(1, 3, 64, 64)
    assert encoder.strides == tuple(min(s, stride) for s in (1, 2, 4, 8, 16, 32))
    with torch.no_grad():
        for want, have in zip(theirs(x), encoder(x)[1:], strict=True):
            torch.testing.assert_close(have, want)


def test_an_output_stride_that_timm_cannot_build_is_refused_with_families_that_can():
    with pytest.raises(OptionValueError, match=r"with 32 only.*resnet"):
        TimmEncoder("swin_tiny_patch4_window7_224", output_stride=16)
    assert TimmEncoder("vit_tiny_patch16_224", output_stride=16).output_stride == 16


def test_prefix_tokens_and_the_choice_of_blocks_and_norm():
    encoder = TimmEncoder("vit_small_patch16_dinov3", out_indices=(-3, -1), norm=True).eval()
    assert encoder.strides == (1, 16, 16)
    assert encoder.feature_info.prefix_tokens == 5
    x = torch.rand(2, 3, 48, 32)
    with torch.no_grad():
        maps, prefix = encoder.forward_with_prefix(x)
        again = encoder(x)
    assert [tuple(tokens.shape) for tokens in prefix] == [(2, 5, 384)] * 2
    for one, two in zip(maps, again, strict=True):
        torch.testing.assert_close(one, two)
    means = again[-1].mean(1)
    assert means.abs().max() < 1e-3  # the norm was applied: no channel offset is left
    single = TimmEncoder("vit_tiny_patch16_224", depth=3, out_indices=(5,))
    assert single.out_channels == (3, 192)
    with pytest.raises(NotImplementedError):
        TimmEncoder("resnet18", depth=1).forward_with_prefix(x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "vit_tiny_patch16_224", "out_indices": (3, 12)}, "12 blocks"),
        ({"name": "vit_tiny_patch16_224", "out_indices": (3, 3)}, "ascending"),
        ({"name": "vit_tiny_patch16_224", "out_indices": ()}, "ascending"),
        ({"name": "resnet18", "out_indices": (1, 2)}, "Use depth instead"),
        ({"name": "resnet18", "norm": True}, "norm is for networks of one resolution"),
        ({"name": "resnet18", "depth": 6}, "depths 1 to 5"),
        ({"name": "resnet18", "in_channels": 0}, "1 or more"),
        ({"name": "resnet18", "output_stride": 4}, "with 8, 16, 32 only"),
        ({"name": "resnet18", "img_size": 64}, "does not take it"),
        ({"name": "maxvit_pico_rw_256", "img_size": (64, 0)}, "height, width"),
        ({"name": "vgg11", "drop_path_rate": 0.1}, "does not take it"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with torch.device("meta"), pytest.raises(OptionValueError, match=message):
        TimmEncoder(**options)


def test_what_cannot_be_an_encoder_is_refused():
    with pytest.raises(IncompatiblePartsError, match="neither exported nor compiled"):
        TimmEncoder("gemma4_vit_167m")


def test_other_sizes_are_refused_by_a_network_of_one_size():
    encoder = TimmEncoder("levit_128s", img_size=(64, 96))
    with pytest.raises(InputError, match=r"64 x 96, got 64 x 64.*build it with img_size"):
        encoder(torch.rand(1, 3, 64, 64))
    with torch.device("meta"):
        fixed = TimmEncoder("nest_tiny_jx")
    with pytest.raises(InputError, match="it has this one size"):
        fixed(torch.rand(1, 3, 64, 64))


def test_a_depth_above_the_first_level_leaves_the_image():
    encoder = TimmEncoder("convnext_atto", depth=1)
    x = torch.rand(1, 3, 20, 30)
    assert (encoder.strides, encoder.out_channels, len(list(encoder.parameters()))) == ((1,), (3,), 0)
    assert encoder(x)[0] is x
    encoder.set_in_channels(5)
    assert encoder.out_channels == (5,)


def test_stochastic_depth_is_handed_on():
    encoder = TimmEncoder("convnext_atto", depth=2, drop_path_rate=0.5)
    assert any("drop_prob=0.5" in repr(module) for module in TimmEncoder("convnext_atto", drop_path_rate=0.5).modules())
    assert encoder.strides == (1, 4)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resnet18", (64, 96)),
        ("legacy_xception", (75, 96)),
        pytest.param("vit_tiny_patch16_224", (64, 96), marks=slow),
        pytest.param("swin_tiny_patch4_window7_224", (64, 96), marks=slow),
        pytest.param("efficientnet_b0", (64, 96), marks=slow),
        pytest.param("hrnet_w18_small", (64, 96), marks=slow),
    ],
)
def test_it_compiles_whole_and_copies(name, size):
    encoder = TimmEncoder(name, depth=3).eval()
    x = torch.rand(1, 3, *size)
    with torch.no_grad():
        wanted = encoder(x)
        compiled = torch.compile(encoder, backend="eager", fullgraph=True)(x)
        pickled = pickle.loads(pickle.dumps(encoder))(x)
        copied = copy.deepcopy(encoder)(x)
    for outputs in (compiled, pickled, copied):
        for want, have in zip(wanted, outputs, strict=True):
            torch.testing.assert_close(have, want)


def test_a_vit_exports_with_its_prefix_tokens_untouched():
    encoder = TimmEncoder("vit_tiny_patch16_224", out_indices=(0, 1)).eval()
    x = torch.rand(1, 3, 32, 48)
    exported = torch.export.export(encoder, (x,)).module()
    with torch.no_grad():
        for want, have in zip(encoder(x), exported(x), strict=True):
            torch.testing.assert_close(have, want)
