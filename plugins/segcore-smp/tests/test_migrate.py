"""segcore migrate: imports, and what is said of every use."""

import textwrap

import pytest

pytest.importorskip("libcst")
from segcore_smp.migrate.source import UnreadableError, migrated


def text(program, *, native=False):
    return migrated(textwrap.dedent(program).encode(), native=native).data.decode()


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


def test_deprecated_modules_are_looked_at_silently(recwarn):
    program = (
        "from segmentation_models_pytorch.utils.losses import DiceLoss\nimport segmentation_models_pytorch.utils.nope"
    )
    outcome = migrated(program.encode(), native=False)
    assert [use.note for use in outcome.uses] == ["", "left as it is: there is no segcore_smp.utils.nope"]
    assert migrated(b"import segmentation_models_pytorch.losses.dice.x", native=False).uses[0].note.endswith("dice.x")
    assert not recwarn.list
