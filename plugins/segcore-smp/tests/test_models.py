"""Models beside SMP's: state dicts from one seed, outputs in both modes, gradients, whatever SMP's users call."""

import contextlib
import copy
import pickle
import warnings

import pytest
import segcore_smp
import segmentation_models_pytorch as smp
import torch
from torch import nn

import segcore

ARCHITECTURES = list(smp.MODEL_ARCHITECTURES_MAPPING)
# families, smallest first; SMP's stochastic depth in efficientnet-b* draws by another rule, and its SK networks have
# shapes of their own (see test_encoders)
FAMILIES = ["resnet18", "mobilenet_v2", "tu-regnetx_002", "efficientnet-b0", "timm-efficientnet-b0", "mit_b0", "dpn68"]
LONG = ["vgg11_bn", "densenet121", "se_resnet50", "inceptionv4", "xception", "mobileone_s0", "tu-convnext_atto"]
TRANSFORMERS = ["tu-test_vit", "tu-vit_tiny_patch16_224", "tu-vit_tiny_patch16_224.augreg_in21k", "tu-convnext_atto"]
DILATED = {"deeplabv3", "deeplabv3plus", "pan"}
UNDILATED = ("vgg", "densenet", "inception", "xception", "mit")


@contextlib.contextmanager
def quiet():
    """SMP deprecates names that it still has, and so do we; test_encoders looks at the warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def both(arch, encoder, **options):
    """Return SMP's model and ours, each built from one seed."""
    options = {"encoder_weights": None, "classes": 3} | options
    models = []
    for package in (smp, segcore_smp):
        torch.manual_seed(0)
        with quiet():
            models.append(package.create_model(arch, encoder, **options))
    return models


def outputs(model, x, mode):
    model.train(mode)
    torch.manual_seed(1)
    result = model(x)
    return result if isinstance(result, tuple) else (result,)


def same(theirs, own, size=64, exact=False, train=True, channels=3):
    """Compare state dicts exactly and outputs, these within rounding where sums are taken in another order."""
    assert list(own.state_dict()) == list(theirs.state_dict())
    for key, value in theirs.state_dict().items():
        assert torch.equal(own.state_dict()[key], value), key
    x = torch.rand(2, channels, size, size, generator=torch.Generator().manual_seed(0))
    x = x.to(next(theirs.parameters()).dtype)
    for mode in (False, True) if train else (False,):
        for want, have in zip(outputs(theirs, x, mode), outputs(own, x, mode), strict=True):
            assert have.shape == want.shape
            rounding = 5e-3 if mode else 2e-5  # norms over few pixels blow it up in training
            assert (have - want).abs().max() <= (0 if exact else rounding) * want.abs().max()


def refused(arch, encoder):
    return (arch in DILATED and encoder.startswith(UNDILATED)) or (
        arch in {"linknet", "unetplusplus"} and encoder.startswith("mit")
    )


CASES = [(arch, encoder) for arch in ARCHITECTURES if arch != "dpt" for encoder in FAMILIES + LONG]
CASES = [case for case in CASES if not refused(*case)] + [("dpt", encoder) for encoder in TRANSFORMERS]
FAST = {(arch, "resnet18") for arch in ARCHITECTURES} | {("unet", encoder) for encoder in FAMILIES}
FAST |= {("dpt", TRANSFORMERS[0]), ("deeplabv3plus", "mobilenet_v2")}
FAST -= {("unet", "dpn68"), ("unet", "timm-efficientnet-b0")}


@pytest.mark.parametrize(
    ("arch", "encoder"), [pytest.param(*case, marks=() if case in FAST else pytest.mark.slow) for case in CASES]
)
def test_one_seed_gives_one_model(arch, encoder):
    theirs, own = both(arch, encoder, aux_params={"classes": 4, "dropout": 0.3})
    assert own.name == theirs.name
    assert own.config == theirs.config
    assert isinstance(own, segcore.SegmentationModel)
    exact = encoder.startswith(("resnet18", "tu-regnetx", "vgg", "densenet")) or (
        encoder == "mobilenet_v2" and arch not in DILATED
    )
    exact = exact and arch != "segformer"
    stochastic = encoder.startswith("efficientnet-b")
    if encoder.startswith("mobileone"):
        theirs, own = theirs.double(), own.double()  # its many norms blow rounding up
    same(
        theirs,
        own,
        160 if encoder == "tu-test_vit" else {"pan": 128, "dpt": 224}.get(arch, 64),
        exact,
        train=not stochastic,
    )


@pytest.mark.parametrize(
    ("arch", "encoder", "options"),
    [
        ("unet", "resnet18", {"in_channels": 5, "encoder_depth": 3, "decoder_channels": (32, 16, 8)}),
        ("unet", "resnet18", {"decoder_attention_type": "scse", "decoder_interpolation": "bilinear"}),
        ("unet", "resnet18", {"decoder_use_norm": False, "activation": "sigmoid"}),
        pytest.param("unet", "vgg11", {"in_channels": 1}, marks=pytest.mark.slow),
        ("unetplusplus", "resnet18", {"decoder_use_norm": {"type": "batchnorm", "eps": 1e-2}}),
        ("manet", "resnet18", {"decoder_pab_channels": 32, "encoder_depth": 4, "decoder_channels": [64, 32, 16, 8]}),
        ("linknet", "resnet18", {"encoder_depth": 4, "activation": "softmax2d"}),
        ("fpn", "resnet18", {"decoder_merge_policy": "cat", "upsampling": 2}),
        ("pspnet", "resnet18", {"psp_out_channels": 64, "psp_dropout": 0.0}),
        ("deeplabv3", "resnet18", {"encoder_output_stride": 16, "decoder_atrous_rates": (6, 12, 18)}),
        ("deeplabv3plus", "resnet18", {"encoder_output_stride": 8, "decoder_aspp_separable": False}),
        ("pan", "resnet18", {"encoder_output_stride": 32, "decoder_interpolation": "nearest"}),
        ("upernet", "resnet18", {"decoder_channels": 32, "encoder_depth": 4}),
        ("segformer", "mit_b0", {"decoder_segmentation_channels": 64, "aux_params": {"classes": 2, "pooling": "max"}}),
    ],
    ids=str,
)
def test_options_mean_what_they_mean_in_smp(arch, encoder, options):
    theirs, own = both(arch, encoder, **options)
    assert own.config == theirs.config
    same(theirs, own, 256 if arch == "pan" else 64, channels=options.get("in_channels", 3))


@pytest.mark.parametrize("norm", ["layernorm", "instancenorm", {"type": "layernorm", "eps": 1e-2}], ids=str)
def test_norms_that_fail_in_smp(norm):
    model = segcore_smp.Unet("resnet18", encoder_weights=None, decoder_use_norm=norm)
    model(torch.rand(2, 3, 64, 64)).sum().backward()
    assert not [part for part in model.decoder.modules() if isinstance(part, nn.BatchNorm2d)]
    with pytest.raises(segcore.OptionValueError, match="norm"):
        segcore_smp.Unet("resnet18", encoder_weights=None, decoder_use_norm="no such norm")


def test_arguments_by_position():
    with quiet():
        theirs, own = (
            package.PSPNet("resnet18", None, 2, 64, "batchnorm", 0.1, 3, 2) for package in (smp, segcore_smp)
        )
    assert own.config == theirs.config
    assert own.state_dict().keys() == theirs.state_dict().keys()


def test_gradients():
    theirs, own = both("unet", "resnet18")
    x = torch.rand(2, 3, 64, 64)
    for model in (theirs, own):
        model(x).square().mean().backward()
    for (name, a), (other, b) in zip(theirs.named_parameters(), own.named_parameters(), strict=True):
        assert name == other
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-3, atol=1e-6)


def test_parts_called_one_by_one():
    theirs, own = both("fpn", "mit_b0")
    x = torch.rand(1, 3, 64, 64)
    theirs.eval(), own.eval()
    features, wanted = own.encoder(x), theirs.encoder(x)
    assert [tuple(feature.shape) for feature in features] == [tuple(feature.shape) for feature in wanted]
    assert own.encoder.out_channels == theirs.encoder.out_channels == [3, 0, 32, 64, 160, 256]
    assert own.encoder.output_stride == theirs.encoder.output_stride
    mask = own.segmentation_head(own.decoder(features))
    torch.testing.assert_close(mask, own(x), rtol=0, atol=0)
    assert [type(part).__name__ for part in own.segmentation_head] == [
        type(part).__name__ for part in theirs.segmentation_head
    ]


def test_hooks_devices_copies_and_pickles():
    model = segcore_smp.PSPNet("resnet18", encoder_weights=None, classes=2).eval()
    x = torch.rand(1, 3, 64, 64)
    seen = []
    model.encoder.layer2.register_forward_hook(lambda *_: seen.append(1))
    wanted = model(x)
    assert seen == [1]
    model.encoder.layer2._forward_hooks.clear()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(x), wanted)
        with torch.no_grad():
            other.encoder.conv1.weight.zero_()
        assert not torch.equal(other(x), wanted)  # what computes is what was copied
    assert torch.equal(model(x), wanted)
    assert model.double()(x.double()).dtype == torch.float64
    assert {value.device.type for value in model.to("meta").state_dict().values()} == {"meta"}
    model.train()
    assert model.encoder._net.training


@pytest.mark.parametrize("arch", ["fpn", "upernet", "deeplabv3", "unetplusplus"])
def test_sizes_are_checked_as_in_smp(arch):
    theirs, own = both(arch, "resnet18")
    x = torch.rand(1, 3, 65, 64)
    for model in (theirs, own):
        with pytest.raises(RuntimeError, match="Wrong input shape height=65, width=64"):
            model.eval()(x)
    own.requires_divisible_input_shape = False
    assert own(x).shape[:2] == (1, 3)


def test_unet_takes_any_size():
    theirs, own = both("unet", "resnet18")
    x = torch.rand(1, 3, 50, 71)
    assert torch.equal(own.eval()(x), theirs.eval()(x))


def test_masks_have_the_size_of_the_image_at_every_depth():
    for depth in (3, 4, 5):
        model = segcore_smp.FPN("resnet18", encoder_depth=depth, encoder_weights=None).eval()
        assert model(torch.rand(1, 3, 64, 64)).shape == (1, 1, 64, 64)
    for depth in (1, 2, 3, 4, 5):
        model = segcore_smp.PSPNet("resnet18", encoder_depth=depth, encoder_weights=None).eval()
        assert model(torch.rand(1, 3, 64, 64)).shape == (1, 1, 64, 64)


def test_freezing():
    model = segcore_smp.Unet("mit_b0", encoder_weights=None)
    norms = segcore_smp.Unet("resnet18", encoder_weights=None)
    x = torch.rand(2, 3, 64, 64)
    for each in (model, norms):
        each.train()
        each.freeze_encoder()
        assert not any(parameter.requires_grad for parameter in each.encoder.parameters())
    before = copy.deepcopy(norms.encoder.state_dict())
    for mode in (True, False, True):
        norms.train(mode)
        norms(x)
        assert all(torch.equal(before[key], value) for key, value in norms.encoder.state_dict().items())
    model.eval()  # in SMP a frozen encoder goes on dropping paths here
    assert not any(module.training for module in model.modules())
    assert torch.equal(model(x), model(x))
    norms.unfreeze_encoder()
    assert all(parameter.requires_grad for parameter in norms.encoder.parameters())
    assert all(module.training for module in norms.encoder.modules() if isinstance(module, nn.BatchNorm2d))
    norms(x)
    assert not torch.equal(before["bn1.running_mean"], norms.encoder.bn1.running_mean)
    with pytest.raises(ValueError, match="a bool is needed"):
        norms.train("yes")


def test_predict_leaves_the_model_in_evaluation_mode():
    theirs, own = both("unet", "resnet18")
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(own.train().predict(x), theirs.train().predict(x))
    assert not own.training
    assert own.predict(x).is_inference()


def test_unknown_keywords_are_refused():
    for arguments in ({"decoder_chanels": (8, 8)}, {"clases": 5}, {"encoder_output_stride": 8}):
        with pytest.raises(TypeError, match=next(iter(arguments))):
            segcore_smp.Unet("resnet18", encoder_weights=None, **arguments)
    with pytest.raises(TypeError, match="no_such"):
        segcore_smp.Unet("tu-resnet18", encoder_weights=None, no_such=1)
    segcore_smp.Unet("resnet18", encoder_weights=None, drop_path_rate=None)  # None was always left out


def test_old_keywords():
    with pytest.warns(DeprecationWarning, match="decoder_use_batchnorm is deprecated") as caught:
        model = segcore_smp.Unet("resnet18", encoder_weights=None, decoder_use_batchnorm=False)
    assert caught[0].filename == __file__
    assert isinstance(model.decoder.blocks[0].conv1[1], nn.Identity)
    with pytest.warns(DeprecationWarning, match="psp_use_batchnorm"):
        segcore_smp.PSPNet("resnet18", encoder_weights=None, psp_use_batchnorm=False)
    with pytest.warns(DeprecationWarning, match="upscale_mode"):
        segcore_smp.PAN("resnet18", encoder_weights=None, upscale_mode="nearest")


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda package: package.create_model("unett"), KeyError),
        (lambda package: package.Unet("resnet", encoder_weights=None), KeyError),
        (lambda package: package.Unet("resnet18", encoder_weights="coco"), KeyError),
        (lambda package: package.Unet("resnet18", encoder_weights=None, encoder_depth=4), ValueError),
        (lambda package: package.Unet("resnet18", encoder_weights=None, encoder_depth=6), ValueError),
        (lambda package: package.Unet("resnet18", encoder_weights=None, activation="sigmoyd"), ValueError),
        (lambda package: package.Unet("resnet18", encoder_weights=None, decoder_attention_type="se"), ValueError),
        (lambda package: package.DeepLabV3("xception", encoder_weights=None), ValueError),
        (lambda package: package.DeepLabV3("resnet18", encoder_weights=None, encoder_output_stride=4), ValueError),
        (lambda package: package.PAN("resnet18", encoder_weights=None, encoder_output_stride=8), ValueError),
        (lambda package: package.DPT("resnet18", encoder_weights=None), ValueError),
        (lambda package: package.Linknet("mit_b0", encoder_weights=None), ValueError),
        (lambda package: package.UnetPlusPlus("mit_b0", encoder_weights=None), ValueError),
        (lambda package: package.FPN("mit_b0", encoder_weights=None, encoder_depth=4), ValueError),
        (lambda package: package.Unet("tu-vit_tiny_patch16_224", encoder_weights=None), ValueError),
    ],
)
def test_what_smp_refuses(make, error):
    for package in (smp, segcore_smp):
        with quiet(), pytest.raises(error):
            make(package)


@pytest.mark.parametrize("arch", ["pspnet", *(pytest.param(arch, marks=pytest.mark.slow) for arch in ("unet", "dpt"))])
def test_export(arch):
    encoder, size = (TRANSFORMERS[0], 160) if arch == "dpt" else ("resnet18", 64)
    model = segcore_smp.create_model(arch, encoder, encoder_weights=None).eval()
    x = torch.rand(1, 3, size, size)
    program = torch.export.export(model, (x,), strict=False)
    torch.testing.assert_close(program.module()(x), model(x))
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), model(x))
