"""All encoders of segmentation_models_pytorch by their own names, live: features, shapes, dilation, published weights.

Networks are built without initialisation and share one set of random tensors, so that the huge ones fit.
"""

import contextlib
import re
import warnings

import pytest
import torch
from segmentation_models_pytorch.encoders import encoders as smp_encoders
from segmentation_models_pytorch.encoders import get_encoder
from segmentation_models_pytorch.encoders.timm_sknet import SkNetEncoder
from torch import nn

import segcore

FAMILIES = {
    "resnet18": r"resnet\d+",
    "resnext50_32x4d": r"resnext\d+_\d+x\d+d",
    "dpn68": r"dpn\d+b?",
    "vgg11": r"vgg\d+",
    "vgg11_bn": r"vgg\d+_bn",
    "se_resnext50_32x4d": r"senet154|se_resne.*",
    "densenet121": r"densenet\d+",
    "inceptionresnetv2": r"inceptionresnetv2",
    "inceptionv4": r"inceptionv4",
    "efficientnet-b0": r"efficientnet-b\d",
    "mobilenet_v2": r"mobilenet_v2",
    "xception": r"xception",
    "timm-efficientnet-b0": r"timm-efficientnet-(b\d|l2)",
    "timm-tf_efficientnet_lite0": r"timm-tf_efficientnet_lite\d",
    "timm-skresnet18": r"timm-skres.*",
    "mit_b0": r"mit_b\d",
    "mobileone_s1": r"mobileone_s\d",
}
NO_DILATION = re.compile(r"vgg|densenet|inception|xception")
BREAKS = re.compile(r"mit_")  # SMP dilates the strided convolution inside the attention, which makes another network
HUGE = re.compile(r"resnext101_32x(32|48)d|timm-efficientnet-l2")
NAMES = [pytest.param(name, marks=() if name in FAMILIES else pytest.mark.slow) for name in smp_encoders]
BLOCK = torch.rand(1_000_003, generator=torch.Generator().manual_seed(0)).mul_(2).sub_(1)


@contextlib.contextmanager
def uninitialised():
    """Leave new parameters as the memory is; what draws them takes most of the time of a build."""
    with pytest.MonkeyPatch.context() as patch:
        for name in dir(nn.init):
            if name.endswith("_") and not name.startswith("_"):
                patch.setattr(nn.init, name, lambda tensor, *_, **__: tensor)
        yield


def reference(name, depth=5, in_channels=3, output_stride=32, own_shapes=False):
    """SMP's encoder; its SK networks get timm's arguments, which are ours, unless its own are asked for."""
    with warnings.catch_warnings(), uninitialised():
        warnings.simplefilter("ignore")  # SMP would rather have its users write tu-
        if not name.startswith("timm-sk") or own_shapes:
            return get_encoder(name, in_channels, depth, output_stride=output_stride).eval()
        kinds = {"rd_ratio": 1 / 8, "rd_divisor": 16, "split_input": True}
        if "next" in name:
            kinds = {"rd_ratio": 1 / 16, "rd_divisor": 32, "split_input": False}
        params = smp_encoders[name]["params"] | {"block_args": {"sk_kwargs": kinds}}
        encoder = SkNetEncoder(**params, depth=depth, output_stride=output_stride)
        encoder.set_in_channels(in_channels, pretrained=False)
        if output_stride != 32:
            encoder.make_dilated(output_stride)
        return encoder.eval()


def ours(name, **options):
    with torch.device("meta"):
        if name.startswith("resne") and options.get("output_stride", 32) != 32:
            options["dilation_rule"] = "smp"
        return segcore.create_encoder(name, **options).eval()


@torch.no_grad()
def randomise(module):
    """Give every tensor values of its own, of a size that keeps activations in hand."""
    for number, (name, tensor) in enumerate(module.state_dict().items()):
        if not tensor.is_floating_point():
            tensor.zero_()
            continue
        flat, start = tensor.view(-1), 7919 * number % 1000
        for begin in range(0, flat.numel(), len(BLOCK) - 1000):
            part = flat[begin : begin + len(BLOCK) - 1000]
            part.copy_(BLOCK[start : start + len(part)])
        if tensor.ndim > 1:
            tensor.mul_((6 / tensor[0].numel()) ** 0.5)
        elif name.endswith(("running_var", "weight")):
            tensor.mul_(0.5).add_(1)
        else:
            tensor.mul_(0.2)


@torch.no_grad()
def settle(module, in_channels):
    """Bring the norms' statistics near those of their inputs: in deep networks rounding would be blown up otherwise."""
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    module.train()
    module(torch.rand(2, in_channels, 64, 96, dtype=next(module.parameters()).dtype))
    module.eval()
    for norm in norms:
        norm.running_mean += 0.1 * norm.running_var.sqrt() * BLOCK[: len(norm.running_mean)]
        norm.running_var += norm.running_var.mean()


@torch.no_grad()
def check(name, depth, in_channels, output_stride):
    theirs = reference(name, depth, in_channels, output_stride)
    theirs = theirs if HUGE.match(name) else theirs.double()
    randomise(theirs)
    if "efficientnet" in name:
        settle(theirs, in_channels)
    own = ours(name, depth=depth, in_channels=in_channels, output_stride=output_stride)
    own.load_state_dict(own.convert_state_dict(theirs.state_dict()), assign=True)
    x = torch.rand(1, in_channels, 64, 96, dtype=next(theirs.parameters()).dtype)
    wanted = [feature for feature in theirs(x) if feature.shape[1]]  # SMP has an empty map where a stride is missing
    given = own(x)
    assert [tuple(feature.shape) for feature in given] == [tuple(feature.shape) for feature in wanted]
    assert tuple(feature.shape[1] for feature in given) == own.out_channels
    for stride, have, want in zip(own.strides, given, wanted, strict=True):
        assert want.isfinite().all()
        assert want.max() > 0
        difference = (have - want).abs().max() / want.abs().max()
        limit = 1e-6 if HUGE.match(name) else 1e-10
        assert difference <= limit, f"{difference} at stride {stride}, depth {depth}, {in_channels} channels"


@pytest.mark.parametrize("name", NAMES)
def test_features_equal_those_of_smp(name):
    for depth, in_channels in ((5, 3), (3, 4), (5, 4), (3, 3))[: 4 if name in FAMILIES else 2]:
        check(name, depth, in_channels, 32)


@pytest.mark.parametrize("name", NAMES)
def test_dilated_features_equal_those_of_smp(name):
    for stride in (16, 8):
        if NO_DILATION.match(name):
            with pytest.raises(ValueError, match="dilated"):
                reference(name, output_stride=stride)
        if NO_DILATION.match(name) or BREAKS.match(name):
            with pytest.raises(segcore.OptionValueError, match=rf"has 32\. Encoders that have {stride}: dpn, .*resnet"):
                ours(name, output_stride=stride)
        else:
            check(name, 5, 3, stride)


def test_every_native_name_of_smp_is_a_name_here():
    assert len(smp_encoders) == 76
    specs = {name: segcore.encoders[name] for name in smp_encoders}
    assert {name: spec.deprecated for name, spec in specs.items() if spec.deprecated or spec.name != name} == {}
    for name in smp_encoders:
        matching = [family for family, pattern in FAMILIES.items() if re.fullmatch(pattern, name)]
        assert len(matching) == 1, name
        assert specs[matching[0]].parameters <= specs[name].parameters, f"{name} is smaller than {matching[0]}"


def test_every_published_weight_of_smp_is_a_record():
    published = {
        (name, tag): found for name, row in smp_encoders.items() for tag, found in row["pretrained_settings"].items()
    }
    records = {(name, tag): record for name in smp_encoders for tag, record in segcore.encoders[name].weights.items()}
    assert len(records) == 116
    assert {key: (record.url, record.revision) for key, record in records.items()} == {
        key: (f"hf://{found['repo_id']}/model.safetensors", found["revision"]) for key, found in published.items()
    }
    for key, record in records.items():
        assert record.problem() is None, key
        assert (record.input_range, record.input_space, record.sha256) == ((0.0, 1.0), "RGB", None), key
        assert len(record.mean) == len(record.std) == 3, key
        assert all(0.4 < value < 0.51 for value in record.mean), key
        assert all(0.2 < value < 0.51 for value in record.std), key
    restricted = {
        key for key, record in records.items() if "NC" in record.license or "non-commercial" in record.license
    }
    assert restricted == {(n, t) for n, t in records if t in {"ssl", "swsl", "instagram"} or n.startswith("mit_")}


@pytest.mark.parametrize("name", ["timm-skresnet18", "timm-skresnet34", "timm-skresnext50_32x4d"])
def test_smps_sk_networks_have_other_shapes_than_timms_and_than_published_weights(name):
    """SMP leaves out timm's ``rd_divisor`` and ``split_input``; the published weights are timm's, and so are we."""
    theirs = reference(name, own_shapes=True).state_dict()
    own = ours(name)
    found = own.convert_state_dict(theirs)
    assert any(found[key].shape != value.shape for key, value in own.state_dict().items())
    fitting = reference(name).state_dict()
    assert {key: value.shape for key, value in own.convert_state_dict(fitting).items()} == {
        key: value.shape for key, value in own.state_dict().items()
    }


CHANNELS = [*FAMILIES, "timm/convnext_atto", "timm/vit_tiny_patch16_224"]
LONG = re.compile(r"inception|mobileone|densenet|se_res|xception|timm/vit")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if LONG.match(name) else ()) for name in CHANNELS]
)
def test_weights_for_rgb_fit_images_of_1_to_13_channels_in_four_ways(name):
    torch.manual_seed(0)
    plain = segcore.create_encoder(name, depth=2)
    state = plain.state_dict()
    cases = [(channels, "repeat") for channels in range(1, 14)]
    cases += [(channels, init) for channels in (1, 4) for init in ("rgb+zero", "mean", "random")]
    for channels, init in cases:
        with uninitialised() if init != "random" else contextlib.nullcontext():
            encoder = segcore.create_encoder(name, depth=2, in_channels=channels, weights=state, input_init=init)
        assert encoder.in_channels == channels
        for key, value in encoder.state_dict().items():
            given = state[key]
            if value.shape == given.shape:
                torch.testing.assert_close(value, given)
                continue
            assert key.removesuffix(".weight") in encoder._first_convs()
            assert value.shape == (len(given), channels, *given.shape[2:])
            if init == "repeat" and channels > 1:
                repeated = torch.cat([given] * 5, dim=1)[:, :channels] * (3 / channels)
                torch.testing.assert_close(value, repeated)
            elif init == "rgb+zero":
                torch.testing.assert_close(value[:, :3], given[:, :channels])
                assert not value[:, 3:].any()
            elif init == "mean":
                torch.testing.assert_close(value.sum(1), given.sum(1))
                assert (value == value[:, :1]).all()
            elif init == "repeat":
                torch.testing.assert_close(value, given.sum(1, keepdim=True))
            else:
                assert value.std() > 0
        if channels in {1, 5, 13}:
            assert encoder.eval()(torch.rand(1, channels, 32, 32))[-1].isfinite().all()


@pytest.mark.parametrize("name", FAMILIES)
def test_stages_beyond_the_depth_are_not_built(name):
    spec = segcore.encoders[name]
    count = 0
    for depth in range(1, 6):
        encoder = ours(name, depth=depth)
        assert encoder.strides == tuple(stride for stride in spec.nominal_strides if stride <= 2**depth)
        now = sum(value.numel() for value in encoder.parameters())
        assert now > count or (name[:3], depth) in {("mit", 1), ("vgg", 5)}  # the image; a pool
        count = now
    assert count == spec.parameters
