"""segcore migrate: programs in, programs out, and the new ones give the numbers of the old ones."""

import json
import os
import re
import stat
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import pytest
import segcore_smp
import segmentation_models_pytorch as smp
import torch
from click.testing import CliRunner

import segcore
from segcore.cli import cli

pytest.importorskip("libcst")
from segcore_smp.migrate.command import UNREADABLE
from segcore_smp.migrate.source import UnreadableError, migrated


def text(program, *, native=False):
    return migrated(textwrap.dedent(program).encode(), native=native).data.decode()


def migrate(*args):
    return CliRunner().invoke(cli, ["migrate", *map(str, args)])


IMPORTS = {
    "import segmentation_models_pytorch as smp": "import segcore_smp as smp",
    "import segmentation_models_pytorch": "import segcore_smp as segmentation_models_pytorch",
    "import os, segmentation_models_pytorch as smp, sys  # all": "import os, segcore_smp as smp, sys  # all",
    "import segmentation_models_pytorch.losses as L": "import segcore_smp.losses as L",
    "import segmentation_models_pytorch.losses": (
        "import segcore_smp as segmentation_models_pytorch, segcore_smp.losses"
    ),
    "import segmentation_models_pytorch.losses, segmentation_models_pytorch.metrics": (
        "import segcore_smp as segmentation_models_pytorch, segcore_smp.losses, segcore_smp.metrics"
    ),
    "from segmentation_models_pytorch import Unet, FPN as P": "from segcore_smp import Unet, FPN as P",
    "from segmentation_models_pytorch.losses import (  # two\n    DiceLoss,\n    FocalLoss,  # b\n)": (
        "from segcore_smp.losses import (  # two\n    DiceLoss,\n    FocalLoss,  # b\n)"
    ),
    "from segmentation_models_pytorch import *": "from segcore_smp import *",
    "from segmentation_models_pytorch.losses._functional import soft_dice_score as s": (
        "from segcore_smp.losses._functional import soft_dice_score as s"
    ),
    "if True: import segmentation_models_pytorch as smp": "if True: import segcore_smp as smp",
    "x = 1; import segmentation_models_pytorch as smp; y = 2": "x = 1; import segcore_smp as smp; y = 2",
    "from .segmentation_models_pytorch import x": "from .segmentation_models_pytorch import x",
    "import segmentation_models_pytorch_3d as s3": "import segmentation_models_pytorch_3d as s3",
}


@pytest.mark.parametrize("before", IMPORTS)
def test_imports(before):
    assert text(before) == IMPORTS[before]
    assert text(IMPORTS[before]) == IMPORTS[before]
    assert text(f"def f():\n\timport torch\n\t{before}\n".replace("\n    ", "\n\t    ")) == (
        f"def f():\n\timport torch\n\t{IMPORTS[before]}\n".replace("\n    ", "\n\t    ")
    )


@pytest.mark.parametrize("before", [b for b in IMPORTS if "3d" not in b and ".seg" not in b and "*" not in b])
def test_imports_bind_the_same_names(before):
    def names(program):
        space = {}
        exec(program, space)
        return {name: getattr(value, "__name__", value) for name, value in space.items() if not name.startswith("__")}

    theirs, ours = names(before), names(IMPORTS[before])
    ours.pop("segcore_smp", None)  # bound beside it, where a submodule is imported without an alias
    assert {
        name: str(value).replace("segmentation_models_pytorch", "segcore_smp") for name, value in theirs.items()
    } == {name: str(value) for name, value in ours.items()}


def test_uses():
    program = """\
        import segmentation_models_pytorch as smp
        from segmentation_models_pytorch.losses import DiceLoss as D, NoSuchLoss
        from segmentation_models_pytorch.encoders import nothing
        import segmentation_models_pytorch.nowhere

        def f(smp=None):
            return smp.Unet

        model = smp.Unet(classes=3).encoder
        D(smp=smp.losses.BINARY_MODE)
        smp.gone.away
        name = f"segmentation_models_pytorch.{f}"
        cfg = {"_target_": "segmentation_models_pytorch.Unet", "x": "segmentation-models-pytorch==0.6.0"}
        """
    outcome = migrated(textwrap.dedent(program).encode(), native=False)
    found = [
        (use.line, use.kind, use.name.removeprefix("segmentation_models_pytorch."), bool(use.note))
        for use in outcome.uses
    ]
    assert found == [
        (1, "import", "segmentation_models_pytorch", False),
        (2, "import", "losses.DiceLoss", False),
        (2, "import", "losses.NoSuchLoss", True),
        (3, "import", "encoders.nothing", True),
        (4, "import", "nowhere", True),
        (9, "name", "Unet", False),
        (10, "name", "losses.BINARY_MODE", False),
        (10, "name", "losses.DiceLoss", False),
        (11, "name", "gone.away", True),
        (12, "text", "", True),
        (13, "text", "segmentation-models-pytorch==0.6.0", True),
        (13, "text", "Unet", True),
    ]
    lines = outcome.data.decode().splitlines()
    assert lines[0] == "import segcore_smp as smp"
    assert [line for line in lines if "segmentation" in line] == [
        "from segmentation_models_pytorch.losses import DiceLoss as D, NoSuchLoss",
        "from segmentation_models_pytorch.encoders import nothing",
        "import segmentation_models_pytorch.nowhere",
        'name = f"segmentation_models_pytorch.{f}"',
        'cfg = {"_target_": "segmentation_models_pytorch.Unet", "x": "segmentation-models-pytorch==0.6.0"}',
    ]


def test_bytes_are_kept():
    start, rest = (
        "import segmentation_models_pytorch as smp",
        "\r\nx = 'caf\u00e9'\r\n\r\n\r\n#  odd   spaces\n\tif_not = 1 ;\r\n",
    )
    rest = rest.replace("\tif_not", "if_not")
    for coding, mark in (("utf-8", b""), ("utf-8", b"\xef\xbb\xbf"), ("latin-1", b"# -*- coding: latin-1 -*-\r\n")):
        before = mark + f"{start}{rest}".encode(coding)
        after = mark + f"import segcore_smp as smp{rest}".encode(coding)
        assert migrated(before, native=False).data == after
        assert migrated(before, native=True).data == after
        assert migrated(after, native=True).data == after
    no_end = b"import segmentation_models_pytorch as smp"
    assert migrated(no_end, native=False).data == b"import segcore_smp as smp"


def test_what_cannot_be_read():
    for data in (b"import segmentation_models_pytorch\nx = (", b"# coding: nothing\n", b"x = '\xff'", b"print 'x'"):
        with pytest.raises(UnreadableError):
            migrated(data, native=False)


# Native calls

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


# Files


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "a.py").write_text("import segmentation_models_pytorch as smp\nsmp.Unet\n")
    (tmp_path / "b.py").write_text("import torch\n")
    (tmp_path / "conf.yaml").write_text("model:\n  _target_: segmentation_models_pytorch.Unet\n")
    (tmp_path / "requirements.txt").write_text("torch\nsegmentation-models-pytorch==0.6.0\n")
    for passed in (".git", "env", "__pycache__"):
        (tmp_path / passed).mkdir()
        (tmp_path / passed / "c.py").write_text("import segmentation_models_pytorch\n")
    (tmp_path / "env" / "pyvenv.cfg").write_text("")
    return tmp_path


def contents(folder):
    return {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in folder.rglob("*") if file.is_file()}


def test_a_folder(folder):
    before = contents(folder)
    done = migrate(folder)
    assert done.exit_code == 0, done.output
    assert contents(folder) == before
    a = folder / "pkg" / "a.py"
    assert f"{a}:1: import segmentation_models_pytorch" in done.output
    assert f"{a}:2: name segmentation_models_pytorch.Unet" in done.output
    assert f"{folder / 'conf.yaml'}:2: text _target_: segmentation_models_pytorch.Unet  (" in done.output
    assert f"{folder / 'requirements.txt'}:2: text segmentation-models-pytorch==0.6.0" in done.output
    assert "-import segmentation_models_pytorch as smp\n+import segcore_smp as smp\n smp.Unet\n" in done.output
    assert "4 uses in 3 files, 2 to look at, 1 file would change. Nothing was written: add --write." in done.output
    assert "c.py" not in done.output
    done = migrate(folder, "--write")
    assert done.exit_code == 0, done.output
    assert a.read_text() == "import segcore_smp as smp\nsmp.Unet\n"
    assert {f for f, data in contents(folder).items() if before[f] != data} == {a}
    again = migrate(folder, "--write")
    assert "2 uses in 2 files, 2 to look at, 0 files changed." in again.output


def test_syntax_errors(folder):
    (folder / "old.py").write_text("import segmentation_models_pytorch\nprint 'x'\n")
    done = migrate(folder, "--write")
    assert done.exit_code == UNREADABLE == 3
    assert f"{folder / 'old.py'}: line 2: " in done.output
    assert "1 failed" in done.output
    assert (folder / "pkg" / "a.py").read_text().startswith("import segcore_smp as smp")
    assert migrate(folder / "nowhere").exit_code == 2


def test_writing(tmp_path):
    target, link = tmp_path / "real.py", tmp_path / "link.py"
    target.write_bytes(b"import segmentation_models_pytorch as smp\r\n")
    target.chmod(0o750)
    link.symlink_to(target)
    assert migrate(link, "--write").exit_code == 0
    assert link.is_symlink()
    assert target.read_bytes() == b"import segcore_smp as smp\r\n"
    assert stat.S_IMODE(target.stat().st_mode) == 0o750
    assert sorted(file.name for file in tmp_path.iterdir()) == ["link.py", "real.py"]


def test_links_and_read_only_files(tmp_path, monkeypatch):
    outside, folder = tmp_path / "outside.py", tmp_path / "folder"
    folder.mkdir()
    outside.write_text("import segmentation_models_pytorch as smp\n")
    (folder / "link.py").symlink_to(outside)
    (folder / "own.py").write_text("import segmentation_models_pytorch as smp\n")
    monkeypatch.setattr(os, "access", lambda path, mode, **_: mode != os.W_OK)
    done = migrate(folder, "--write")
    assert done.exit_code == UNREADABLE
    assert "own.py: it cannot be written (it is read-only)" in done.output
    assert "link.py" not in done.output
    monkeypatch.undo()
    assert migrate(folder, "--write").exit_code == 0
    assert (folder / "own.py").read_text() == "import segcore_smp as smp\n"
    assert outside.read_text() == "import segmentation_models_pytorch as smp\n"


def test_one_odd_file_stops_nothing(folder, monkeypatch):
    odd = folder / "odd.py"
    odd.write_bytes(b"import segmentation_models_pytorch\x00\n")
    deep = folder / "deep.py"
    deep.write_text("import segmentation_models_pytorch\nx = " + "(" * 5000 + ")" * 5000 + "\n")
    chain = folder / "chain.py"
    chain.write_text("import segmentation_models_pytorch\nx = 1" + " + 1" * 5000 + "\n")
    done = migrate(folder, "--write")
    assert done.exit_code == UNREADABLE
    for file in (odd, deep, chain):
        assert f"{file}: " in done.output
    assert "segcore_smp" in (folder / "pkg" / "a.py").read_text()


def test_diffs_of_other_encodings(tmp_path):
    path = tmp_path / "a.py"
    path.write_bytes("# coding: latin-1\nx = 'é\x0cé'\nimport segmentation_models_pytorch as smp\n".encode("latin-1"))
    assert " x = 'é\x0cé'\n-import segm" in migrate(path).output


def test_deprecated_modules_are_looked_at_silently(recwarn):
    program = (
        "from segmentation_models_pytorch.utils.losses import DiceLoss\nimport segmentation_models_pytorch.utils.nope"
    )
    outcome = migrated(program.encode(), native=False)
    assert [use.note for use in outcome.uses] == ["", "left as it is: there is no segcore_smp.utils.nope"]
    assert migrated(b"import segmentation_models_pytorch.losses.dice.x", native=False).uses[0].note.endswith("dice.x")
    assert not recwarn.list


def test_a_failed_write_leaves_the_file(tmp_path, monkeypatch):
    target = tmp_path / "a.py"
    before = b"import segmentation_models_pytorch as smp\n"
    target.write_bytes(before)

    def broken(self, other):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", broken)
    done = migrate(target, "--write")
    assert done.exit_code == UNREADABLE
    assert "No space left" in done.output
    assert target.read_bytes() == before
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_that_changes_meanwhile(tmp_path):
    from segcore_smp.migrate.files import examined, write

    target = tmp_path / "a.py"
    target.write_text("import segmentation_models_pytorch as smp\n")
    (file,) = examined(target, native=False)
    target.write_text("import segmentation_models_pytorch as smp  # edited\n")
    with pytest.raises(OSError, match="meanwhile"):
        write(file)
    assert target.read_text().endswith("# edited\n")
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(("indent", "escaped", "end"), [(1, False, "\n"), (2, True, ""), (None, False, "")])
def test_notebooks(tmp_path, indent, escaped, end):
    def cell(kind, source):
        more = (
            {"execution_count": 1, "outputs": [{"text": ["segmentation_models_pytorch é"]}]} if kind == "code" else {}
        )
        return {"cell_type": kind, "metadata": {}, "source": source, **more}

    book = {
        "cells": [
            cell("markdown", ["segmentation_models_pytorch"]),
            cell(
                "code",
                [
                    "%matplotlib inline\n",
                    "!pip install segmentation-models-pytorch\n",
                    "import segmentation_models_pytorch as smp",
                ],
            ),
            cell("code", "%%bash\npip install segmentation_models_pytorch (\n"),
            cell("code", ["if True:\n", "    !ls\n", "    model = smp.Unet('resnet18', encoder_weights=None)\n"]),
            cell("code", ["smp.Unet?"]),
            cell("code", ["rest = (10\n", "        % 3)"]),
            cell("code", []),
        ],
        "metadata": {"x": "é"},
        "nbformat": 4,
    }
    path = tmp_path / "a.ipynb"
    path.write_bytes((json.dumps(book, indent=indent, ensure_ascii=escaped) + end).encode())
    done = migrate(path, "--write", "--native")
    assert done.exit_code == 0, done.output
    assert ":3: import segmentation_models_pytorch" in done.output
    assert ":8: name segmentation_models_pytorch.Unet" in done.output
    expected = json.loads(json.dumps(book))
    expected["cells"][1]["source"][2] = "import segcore"
    expected["cells"][3]["source"][2] = (
        "    model = segcore.create_model(\"unet\", encoder='resnet18', encoder_weights=None, decoder_legacy=True)\n"
    )
    assert path.read_bytes() == (json.dumps(expected, indent=indent, ensure_ascii=escaped) + end).encode()


def test_notebooks_that_are_none(tmp_path):
    path = tmp_path / "a.ipynb"
    for content in ("segmentation_models_pytorch", '{"cells": [{}], "x": "segmentation_models_pytorch"}'):
        path.write_text(content)
        done = migrate(path)
        assert done.exit_code == UNREADABLE
        assert "no notebook" in done.output
    odd = '{"cells":[], "metadata": "segmentation_models_pytorch"}'
    path.write_text(odd)
    assert "formatting" in migrate(path, "--write").output
    assert path.read_text() == odd


def test_without_libcst(tmp_path, monkeypatch):
    (tmp_path / "a.py").write_text("import segmentation_models_pytorch\n")
    monkeypatch.setitem(sys.modules, "libcst", None)
    done = migrate(tmp_path)
    assert isinstance(done.exception, segcore.PluginError)
    assert "pip install 'segcore-smp[migrate]'" in str(done.exception)


def test_help_loads_neither_torch_nor_libcst():
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom segcore.cli import cli\n"
        "out = CliRunner().invoke(cli, ['migrate', '--help'])\nassert out.exit_code == 0, out.output\n"
        "assert not {'torch', 'libcst'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"SEGCORE_PLUGINS": "smp"})
