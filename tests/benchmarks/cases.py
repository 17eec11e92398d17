"""What is measured: each case is a pair of programs, segcore's and another, with the goal where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from measure import Side

GUARD = "from segcore import guard_torchvision; guard_torchvision()\n"
SMP = f"{GUARD}import torch, segmentation_models_pytorch as smp\n"
OURS = "import torch, segcore\n"


@dataclass(frozen=True)
class Model:
    """A model that both libraries have.

    Attributes:
        decoder: segcore's name.
        encoder: segcore's name.
        title: the class in SMP.
        size: height and width of a small image that it takes.
        options: more arguments of SMP's class.
    """

    decoder: str
    encoder: str
    title: str
    size: int = 64
    options: str = ""

    @property
    def name(self) -> str:
        """Return decoder and encoder, ``unet/resnet34``."""
        return f"{self.decoder}/{self.encoder}"

    @property
    def ours(self) -> str:
        """Return an expression that builds it with segcore."""
        return f"segcore.create_model({self.decoder!r}, {self.encoder!r})"

    @property
    def theirs(self) -> str:
        """Return an expression that builds it with SMP."""
        encoder = self.encoder.replace("timm/", "tu-")
        return f"smp.{self.title}({encoder!r}, encoder_weights=None{self.options})"

    def saved(self, folder: Path) -> tuple[Path, Path]:
        """Return the folders of its checkpoints, segcore's and SMP's."""
        place = folder / self.name.replace("/", "-")
        return place / "ours", place / "theirs"


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        name: kind, and the model or what segcore is compared with.
        ours: segcore's side.
        theirs: the other side.
        model: must be installed, and is saved by both libraries before the case runs.
        added: goal: CPU seconds that may come on top of the other side.
        cpu: goal: CPU time as a multiple of the other side's.
        memory: goal: memory as a multiple of the other side's.
        mib: goal: MiB of memory.
    """

    name: str
    ours: Side
    theirs: Side
    model: Model | None = None
    added: float | None = None
    cpu: float | None = None
    memory: float | None = None
    mib: float | None = None


FIRST = Model("unet", "resnet18", "Unet")
UNET = Model("unet", "resnet34", "Unet")
LARGE = Model("unet", "timm/convnext_large", "Unet")
LOADED = (
    UNET,
    Model("unet", "efficientnet-b7", "Unet"),
    LARGE,
    Model("dpt", "timm/vit_large_patch16_224", "DPT", 224, ", dynamic_img_size=True"),
)
RUN = (
    UNET,
    Model("fpn", "resnet34", "FPN"),
    Model("deeplabv3plus", "resnet34", "DeepLabV3Plus"),
    Model("segformer", "resnet34", "Segformer"),
)

_CAST = "with torch.autocast('cpu', torch.bfloat16): output = model(x)"
_LAST = "model, x = (t.to(memory_format=torch.channels_last) for t in (model, x))"
WAYS = {  # of a training step: what is changed beforehand, and the forward
    "eager": ("", "output = model(x)"),
    "channels_last": (_LAST, "output = model(x)"),
    "bf16": ("", _CAST),
    "channels_last-bf16": (_LAST, _CAST),
    "compile": ("model.compile()", "output = model(x)"),
}

KINDS = {
    "import": "the process from the start of the interpreter: `import segcore`, against an interpreter that does "
    "nothing, and against `import segmentation_models_pytorch`",
    "first-model": "the process from its start until a random unet/resnet18 stands, built by name out of two plugins "
    "that need torch alone, against SMP's. `first-model/overhead` is only what comes on top of `import torch`, without "
    "the construction of the network (what building it again costs), as a share of `import torch`; "
    "`first-model/overhead/smp` is SMP's share by the same rule",
    "listing": "the names of all encoders, timm's 1371 included, which SMP does not list: the process from its start; "
    "`listing/again`: one further call, the mean of 1000",
    "build": "a random model, built by name in a process that has imported the library",
    "load": "the first checkpoint that a process loads from a local folder, after the import of the library",
    "use": "the same, and then one forward of a small image, for which the weights must be in memory",
    "save": "a random model into a local folder; the median of three. segcore waits until the disk has the file, so "
    "that a crash leaves the old or the new one",
    "forward": "1x3x256x256, fp32, evaluation and inference mode; segcore computes as SMP does, which is checked first",
    "tiles": "a 4096 x 4096 image, 512 x 512 tiles with 64 pixels of overlap and Gaussian weights, "
    "`segcore_plugin_predict.predict_tiled` against MONAI's `sliding_window_inference`, for labels followed by `argmax`. "
    "The model is one 1x1 convolution, so that the tiles count, which is part of both times; the memory includes the "
    "result, 64 MiB for each class of logits and 16 for labels. `tiles/unet/resnet34`: 19 classes, 960 x 960, against "
    "bare calls of the model on the same tiles",
    "training": "forward and backward of 2x3x256x256, fp32, training mode",
    "step": "a training step of 2x3x128x128: forward, Dice and binary cross-entropy, backward, AdamW; the same weights, "
    "samples and losses. SMP's side is always eager and fp32 with its own losses; segcore's name says what is different, "
    "the rest is as there",
}


def prepare(model: Model, folder: Path) -> str:
    """Return a program that saves one model with both libraries, after checking that they compute the same."""
    ours, theirs = model.saved(folder)
    return (
        f"{SMP}import segcore\n"
        f"theirs = {model.theirs}.eval()\n"
        f"theirs.save_pretrained({str(theirs)!r})\n"
        f"ours = segcore.from_pretrained({str(theirs)!r})\n"
        f"x = torch.rand(2, 3, {model.size}, {model.size})\n"
        f"with torch.inference_mode():\n"
        f"    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-4)\n"
        f"ours.save_pretrained({str(ours)!r})"
    )


def cases(folder: Path) -> Iterator[Case]:
    """Yield every case; checkpoints lie in `folder`."""
    yield from _starting()
    yield from _listing()
    for model in LOADED:
        yield from _checkpoints(model, *model.saved(folder))
    yield _saving(UNET, folder)
    for model in RUN:
        yield _running("forward", model, folder, "with torch.inference_mode(): model(x)", "eval", 1)
    yield _running("training", UNET, folder, "model(x).square().mean().backward()", "train", 2)
    for way in WAYS:
        yield _step(UNET, folder, way)
    for classes in (1, 19):
        for output in ("logits", "labels"):
            yield _tiles(classes, output)
    for output in ("logits", "labels"):
        yield _real_tiles(UNET, output)


def _starting() -> Iterator[Case]:
    yield Case("import", Side("import segcore"), Side("pass"), added=0.010)
    yield Case("import/smp", Side("import segcore"), Side(SMP))
    torch = Side("import torch")
    again, again_smp = f"model = {FIRST.ours}", f"model = {FIRST.theirs}"
    build, build_smp = OURS + again, SMP + again_smp
    yield Case("first-model", Side(build), Side(build_smp), FIRST)
    ours, theirs = (
        Side(*pair) for pair in ((build, "import torch", 1, again), (build_smp, "import torch", 1, again_smp))
    )
    yield Case("first-model/overhead", ours, torch, FIRST, cpu=0.05)
    yield Case("first-model/overhead/smp", theirs, torch, FIRST)


def _listing() -> Iterator[Case]:
    ours, theirs = "segcore.list_encoders()", "smp.encoders.get_encoder_names()"
    yield Case("listing", Side(f"import segcore\n{ours}"), Side(f"{SMP}{theirs}"))
    again = Side(ours, f"import segcore\n{ours}", 1000), Side(theirs, f"{SMP}{theirs}", 1000)
    yield Case("listing/again", *again)


def _checkpoints(model: Model, ours: Path, theirs: Path) -> Iterator[Case]:
    import_ours = f"{OURS}segcore.create_model, segcore.from_pretrained"
    if "/" in model.encoder:  # timm is imported beforehand, as SMP's side does
        import_ours = f"{GUARD}{OURS}import timm\nsegcore.create_model, segcore.from_pretrained"
    load_ours = f"model = segcore.from_pretrained({str(ours)!r})"
    load_theirs = f"model = smp.from_pretrained({str(theirs)!r})"
    forward = f"\nwith torch.inference_mode(): model.eval()(torch.zeros(1, 3, {model.size}, {model.size}))"
    load = Side(load_ours, import_ours), Side(load_theirs, SMP)
    yield Case(f"load/{model.name}", *load, model, cpu=0.25, memory=0.1)
    if model not in {UNET, LARGE}:
        return
    build = Side(f"model = {model.ours}", import_ours), Side(f"model = {model.theirs}", SMP)
    yield Case(f"build/{model.name}", *build, model)
    use = Side(load_ours + forward, import_ours), Side(load_theirs + forward, SMP)
    yield Case(f"use/{model.name}", *use, model)


def _saving(model: Model, folder: Path) -> Case:
    save = "model.save_pretrained({!r})"
    ours = Side(save.format(str(folder / "ours")), f"{OURS}model = {model.ours}", 3)
    theirs = Side(save.format(str(folder / "theirs")), f"{SMP}model = {model.theirs}", 3)
    return Case(f"save/{model.name}", ours, theirs, model)


def _step(model: Model, folder: Path, way: str) -> Case:
    """Compare training steps."""
    ours, theirs = model.saved(folder)
    step = "optimizer.zero_grad()\n{}\nloss(output, y).backward()\noptimizer.step()"
    ready = (
        "model.train()\ntorch.manual_seed(0)\nx, y = torch.rand(2, 3, 128, 128), torch.randint(2, (2, 1, 128, 128)).float()"
        "\noptimizer = torch.optim.AdamW(model.parameters(), 1e-4)\n"
    )
    change, forward = WAYS[way]
    load_ours = (
        f"{OURS}model = segcore.from_pretrained({str(ours)!r})\nloss = segcore.create_loss('dice+bce', mode='binary')\n"
        f"{ready}{change}\n"
    )
    load_theirs = (
        f"{SMP}model = smp.from_pretrained({str(theirs)!r})\n"
        f"dice, bce = smp.losses.DiceLoss('binary'), smp.losses.SoftBCEWithLogitsLoss()\n"
        f"def loss(output, y): return dice(output, y) + bce(output, y)\n{ready}"
    )
    mine, other = step.format(forward), step.format("output = model(x)")
    sides = Side(mine, load_ours + mine, 7), Side(other, load_theirs + other, 7)
    return Case(f"step/{model.name}/{way}", *sides, model, cpu=1.0)


def _running(kind: str, model: Model, folder: Path, statement: str, mode: str, batch: int) -> Case:
    ours, theirs = model.saved(folder)
    ready = f"\nmodel.{mode}()\nx = torch.rand({batch}, 3, 256, 256)\n{statement}"
    load_ours = f"{OURS}model = segcore.from_pretrained({str(ours)!r}){ready}"
    load_theirs = f"{SMP}model = smp.from_pretrained({str(theirs)!r}){ready}"
    return Case(f"{kind}/{model.name}", Side(statement, load_ours, 5), Side(statement, load_theirs, 5), model)


def _tiles(classes: int, output: str) -> Case:
    """Compare with MONAI. A small image comes first: what is allocated once does not belong to the image."""
    ready = (
        f"torch.manual_seed(0)\nmodel = torch.nn.Conv2d(3, {classes}, 1).eval()\nimage = torch.randn(3, 4096, 4096)\n"
    )
    ours = (
        f"import torch\nfrom segcore_plugin_predict import predict_tiled\n{ready}"
        f"def run(image): return predict_tiled(model, image, 512, 64, output={output!r}, preprocessing=None)\n"
    )
    after = {("labels", 1): "[0] > 0", ("labels", 19): ".argmax(0)"}.get((output, classes), "")
    theirs = (
        f"import torch\nfrom monai.inferers import sliding_window_inference as slide\n{ready}"
        f"@torch.inference_mode()\n"
        f"def run(image): return slide(image[None], 512, 1, model, overlap=0.125, mode='gaussian')[0]{after}\n"
    )
    warm = "run(image[:, :600, :600])"
    logits = output == "logits"
    runs = 3 if logits or classes == 1 else 1  # argmax over many classes takes seconds
    return Case(
        f"tiles/{classes}/{output}",
        Side("run(image)", ours + warm, runs),
        Side("run(image)", theirs + warm, runs),
        cpu=1,
        memory=None if logits else 0.3,
        mib=64 * classes + 32 if logits else None,
    )


def _real_tiles(model: Model, output: str) -> Case:
    """Compare with calls of the model on the tiles that `predict_tiled` makes: 0 and 448, of 512 pixels each."""
    ready = (
        f"{OURS}from segcore_plugin_predict import predict_tiled\ntorch.manual_seed(0)\n"
        f"model = segcore.create_model({model.decoder!r}, {model.encoder!r}, classes=19).eval()\n"
        f"image = torch.randn(3, 960, 960)\n"
        f"starts = (0, 448)\n"
        f"with torch.inference_mode(): model(image[None, :, :512, :512])"
    )
    bare = (
        "with torch.inference_mode():\n    for y in starts:\n        for x in starts:\n"
        "            model(image[None, :, y : y + 512, x : x + 512])"
    )
    tiled = f"predict_tiled(model, image, 512, 64, output={output!r}, preprocessing=None)"
    return Case(f"tiles/{model.name}/{output}", Side(tiled, ready), Side(bare, ready), model, cpu=1.05)
