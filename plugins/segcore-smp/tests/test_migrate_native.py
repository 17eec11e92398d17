"""segcore migrate --native: calls of segcore's own that give the numbers of the old ones."""

import json
import re
import textwrap
import warnings

import pytest
import segcore_smp
import segmentation_models_pytorch as smp
import torch

import segcore

pytest.importorskip("libcst")
from segcore_smp.migrate.source import migrated


def text(program, *, native=False):
    return migrated(textwrap.dedent(program).encode(), native=native).data.decode()


MODELS = [
    'smp.Unet("resnet18", encoder_weights=None)',
    'smp.Unet(encoder_name="vgg11", encoder_weights=None, encoder_depth=4, decoder_channels=[64, 32, 16, 8], classes=2)',
    'smp.Unet("tu-resnet18", 5, None, decoder_use_norm=False, decoder_attention_type="scse", activation="sigmoid")',
    'smp.UnetPlusPlus("resnet18", encoder_weights=None, decoder_use_norm="identity", decoder_interpolation="bilinear")',
    'smp.MAnet("resnet18", encoder_weights=None, decoder_pab_channels=32)',
    'smp.Linknet("resnet18", encoder_weights=None, in_channels=4)',
    'smp.FPN("resnet18", encoder_weights=None, decoder_merge_policy="cat", decoder_dropout=0.1)',
    'smp.PSPNet("resnet18", None, psp_out_channels=64, psp_dropout=0.0, classes=3)',
    'smp.DeepLabV3("resnet18", encoder_weights=None)',
    'smp.DeepLabV3Plus("resnet18", encoder_weights=None, encoder_output_stride=8, decoder_atrous_rates=(6, 12, 18))',
    'smp.PAN("resnet18", encoder_weights=None)',
    'smp.UPerNet("resnet18", encoder_weights=None, decoder_channels=64)',
    'smp.Segformer("resnet18", encoder_weights=None, aux_params={"classes": 2, "dropout": 0.5})',
    'smp.DPT("tu-vit_tiny_patch16_224", encoder_weights=None)',
    'smp.create_model("FPN", "resnet18", None, 4, 3)',
    'smp.create_model(arch="pspnet", encoder_name="resnet18", encoder_weights=None, in_channels=1, classes=2)',
    "smp.create_model('unet', encoder_name='timm-efficientnet-b0', encoder_weights=None)",
]


def run(program):
    space = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old names of encoders
        exec(program, space)
    return space


@pytest.mark.parametrize(
    "call",
    [pytest.param(call, id=f"{i}", marks=[] if i % 3 == 0 else pytest.mark.slow) for i, call in enumerate(MODELS)],
)
def test_native_models_are_those_that_a_checkpoint_of_smp_gives(call, tmp_path):
    before = f"import segmentation_models_pytorch as smp\nmodel = {call}\n"
    after = text(before, native=True)
    assert after.startswith("import segcore\nmodel = segcore.create_model(")
    assert text(after, native=True) == after
    with torch.device("meta"):
        ours = run(after)["model"]
    theirs = run(before)["model"]
    theirs.save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = segcore.from_pretrained(tmp_path)
    kept = ("segcore_version", "providers", "provenance", "preprocessing")
    mine, wanted = ({k: v for k, v in m.config.items() if k not in kept} for m in (ours, loaded))
    if mine["decoder"]["options"].get("channels", 0) is None:  # the decoder's own
        assert wanted["decoder"]["options"].pop("channels") == (256, 128, 64, 32, 16)
        mine["decoder"]["options"].pop("channels")
    assert json.loads(json.dumps(mine)) == json.loads(json.dumps(wanted))
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in loaded.state_dict().items()}


LEFT = {
    'smp.Unet("resnet18", encoder_weights=None, clases=3)': "clases",
    'smp.Unet("nonesuch", encoder_weights=None)': "nonesuch",
    'smp.Unet("tu-resnet18")': "weights 'imagenet'",
    "smp.Unet(get_name(), encoder_weights=None)": "encoder_name is computed",
    "smp.Unet(**options)": r"\*\*",
    'smp.FPN("resnet18", encoder_weights=None, upsampling=2)': "upsampling",
    'smp.Unet("resnet18", encoder_weights=None, activation="softmax")': "activation",
    'smp.Unet("resnet18", encoder_weights=None, decoder_use_norm="layernorm")': "decoder_use_norm",
    'smp.create_model(name, "resnet18")': "arch is computed",
    'smp.create_model("nonet", "resnet18")': "no such architecture",
    'smp.losses.DiceLoss("multiclass")': "classes without pixels",
    'smp.losses.JaccardLoss("binary", from_logits=False)': "from_logits",
    'smp.losses.DiceLoss("binary", log_loss=True)': "log_loss",
    'smp.losses.FocalLoss("binary", normalized=True)': "normalized",
    'smp.losses.FocalLoss("multilabel", ignore_index=255)': "ignore_index",
    'smp.losses.LovaszLoss("multilabel")': "multilabel",
    "smp.losses.SoftCrossEntropyLoss(ignore_index=255)": "ignore_index",
    "smp.losses.SoftBCEWithLogitsLoss(pos_weight=w)": "pos_weight",
    "smp.losses.MCCLoss()": "probabilities",
    'smp.metrics.get_stats(a, b, mode="binary")': "get_stats",
    'smp.encoders.get_preprocessing_fn("resnet18")': "channels first",
    "smp.from_pretrained(path, classes=2)": "options",
    'smp.Unet.from_pretrained("x")': "no counterpart|counterpart",
}


@pytest.mark.parametrize("call", LEFT)
def test_native_leaves_what_is_not_certain(call):
    program = f"import segmentation_models_pytorch as smp\nx = {call}\n"
    outcome = migrated(program.encode(), native=True)
    assert outcome.data.decode() == program.replace("segmentation_models_pytorch", "segcore_smp")
    (note,) = [use.note for use in outcome.uses if use.note]
    assert note.startswith("left as it is: ")
    assert re.search(LEFT[call], note), note


LOSSES = {
    'DiceLoss("binary")': "binary",
    "JaccardLoss(smp.losses.BINARY_MODE, smooth=1.0, ignore_index=255)": "binary",
    'TverskyLoss("binary", alpha=0.3, beta=0.7, from_logits=True)': "binary",
    'FocalLoss("binary", alpha=0.25, gamma=1.5, ignore_index=255)': "binary",
    'FocalLoss("multiclass", ignore_index=255)': "multiclass",
    'FocalLoss(mode="multilabel", alpha=0.3)': "multilabel",
    'LovaszLoss("binary", per_image=True)': "binary",
    'LovaszLoss("multiclass", ignore_index=255)': "multiclass",
    "SoftCrossEntropyLoss(smooth_factor=0.1)": "multiclass",
    'SoftCrossEntropyLoss(reduction="sum", smooth_factor=0)': "multiclass",
    "SoftBCEWithLogitsLoss()": "multilabel",
    'SoftBCEWithLogitsLoss(reduction="sum", ignore_index=None)': "multilabel",
}


@pytest.mark.parametrize("call", LOSSES)
def test_native_losses_have_the_same_numbers(call):
    before = f"import segmentation_models_pytorch as smp\nloss = smp.losses.{call}\n"
    after = text(before, native=True)
    assert "segcore_smp" not in after
    assert "segcore.create_loss(" in after
    theirs, ours = run(before)["loss"], run(after)["loss"]
    for seed in range(5):
        torch.manual_seed(seed)
        channels = 1 if LOSSES[call] == "binary" else 3
        x = torch.randn(2, channels, 9, 7)
        y = torch.randint(3, (2, 9, 7)) if LOSSES[call] == "multiclass" else torch.randint(2, x.shape).float()
        if seed == 3:
            y = torch.zeros_like(y)
        if seed == 4:
            y = torch.ones_like(y)
        if "255" in call:
            y[:, ..., 0] = 255
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        first, second = theirs(a, y), ours(b, y)
        torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-6)
        first.backward()
        second.backward()
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6)


def test_native_layout_and_imports():
    before = """\
        # a program
        import torch
        from segmentation_models_pytorch import Unet  # the model
        import segmentation_models_pytorch as smp

        NAME = "resnet18"


        def build(classes):
            return Unet(
                encoder_name=NAME,  # small
                encoder_weights=None,
                classes=classes  # many
            )


        def other():
            from segmentation_models_pytorch.losses import LovaszLoss

            return LovaszLoss("multiclass"), smp.metrics
        """
    after = """\
        # a program
        import torch
        import segcore  # the model
        import segcore_smp as smp

        NAME = "resnet18"


        def build(classes):
            return segcore.create_model(
                "unet",
                encoder=NAME,  # small
                encoder_weights=None,
                classes=classes,  # many
                decoder_legacy=True
            )


        def other():

            return segcore.create_loss("lovasz", mode="multiclass"), smp.metrics
        """
    assert text(before, native=True) == textwrap.dedent(after)
    assert text(after, native=True) == textwrap.dedent(after)
    lone = "def f():\n    import segmentation_models_pytorch as smp\n    return smp.losses.LovaszLoss('binary')\n"
    assert (
        text(lone, native=True)
        == 'def f():\n    import segcore\n    return segcore.create_loss("lovasz", mode="binary")\n'
    )
    two = "import segmentation_models_pytorch as smp\na = smp.losses.LovaszLoss('binary')\nb = smp.losses.MCCLoss()\n"
    assert text(two, native=True).startswith("import segcore\nimport segcore_smp as smp\na = segcore.create_loss(")
    assert "import segcore\nimport segcore_smp" not in text(f"import segcore\n{two}", native=True).removeprefix(
        "import segcore\n"
    )


def test_native_leaves_names_that_are_used_otherwise():
    start = "import segmentation_models_pytorch as smp\n"
    call = 'm = smp.Unet("resnet18", encoder_weights=None)\n'
    for other in ("isinstance(m, smp.Unet)\n", "class Mine(smp.Unet): pass\n", "f(smp.Unet)\n"):
        assert text(start + call + other, native=True) == f"import segcore_smp as smp\n{call}{other}"
    for other in ("smp = None\n", "segcore = 1\n"):
        assert "segcore.create_model" not in text(start + other + call, native=True)
    tried = f"try:\n    {start}except ImportError:\n    smp = None\n{call}"
    assert text(tried, native=True) == tried.replace("segmentation_models_pytorch", "segcore_smp")
    suite = f"if True: {start}{call}"
    assert text(suite, native=True) == suite.replace("segmentation_models_pytorch", "segcore_smp")
    commented = f"{start}m = smp.losses.DiceLoss(\n    'binary',\n    from_logits=True,  # why\n)\n"
    assert text(commented, native=True) == commented.replace("segmentation_models_pytorch", "segcore_smp")
    dual = "x = 'a'\nx = 'b'\n"
    assert "create_model" not in text(f"{start}{dual}m = smp.Unet(x, encoder_weights=None)\n", native=True)
    shadow = f"{start}E = 'resnet18'\ndef f(E):\n    return smp.Unet(E, encoder_weights=None)\n"
    assert "create_model" not in text(shadow, native=True)


PROGRAM = """\
import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.losses import FocalLoss

torch.manual_seed(0)
images, masks = torch.randn(2, 3, 64, 64), torch.randint(3, (2, 64, 64))
model = smp.Unet("resnet18", encoder_weights=None, classes=3)
with torch.no_grad():
    for index, parameter in enumerate(model.parameters()):
        parameter.fill_(0.01 * (index % 7 - 3))
focal = FocalLoss(smp.losses.MULTICLASS_MODE)
dice = smp.losses.DiceLoss("multiclass")
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
history = []
for _ in range(2):
    logits = model(images)
    loss = focal(logits, masks) + dice(logits, masks)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    history.append(loss.item())
stats = smp.metrics.get_stats(model.predict(images).argmax(1), masks, mode="multiclass", num_classes=3)
score = smp.metrics.iou_score(*stats, reduction="macro").item()
"""


def test_a_migrated_program_gives_the_same_numbers():
    theirs = run(PROGRAM)
    dropped_in = run(text(PROGRAM))
    assert isinstance(dropped_in["model"], segcore_smp.Unet)
    assert dropped_in["history"] == pytest.approx(theirs["history"], rel=1e-6)
    assert dropped_in["score"] == theirs["score"]
    native = run(text(PROGRAM, native=True))
    assert type(native["model"]) is segcore.SegmentationModel
    assert type(native["focal"]).__module__.startswith("segcore_plugin_losses")
    assert native["history"] == pytest.approx(theirs["history"], rel=1e-4)
    torch.testing.assert_close(native["logits"], theirs["logits"], rtol=1e-3, atol=1e-4)


def test_checkpoints(tmp_path):
    smp.Unet("resnet18", encoder_weights=None).save_pretrained(tmp_path / "m")
    program = f"import segmentation_models_pytorch as smp\nmodel = smp.from_pretrained({str(tmp_path / 'm')!r})\n"
    x = torch.randn(1, 3, 64, 64)
    expected = run(program)["model"](x)
    for native in (False, True):
        torch.testing.assert_close(run(text(program, native=native))["model"](x), expected)
