"""Losses of SMP as calls of `segcore.create_loss`, where the numbers are the same."""

from __future__ import annotations

import libcst as cst

from segcore_smp.migrate.arguments import Arguments, Context, LeftError, keyword, written

REGION = {"DiceLoss": "dice", "JaccardLoss": "jaccard", "TverskyLoss": "tversky"}
TITLES = (*REGION, "FocalLoss", "LovaszLoss", "SoftCrossEntropyLoss", "SoftBCEWithLogitsLoss", "MCCLoss")
_ABSENT = (
    "SMP counts classes without pixels as right, which no loss of segcore does; "
    "segcore.create_loss({name!r}, mode={mode!r}, smooth=0.0) leaves them out"
)


def loss(call: cst.Call, title: str, context: Context) -> cst.Call:
    """Return the call of `segcore.create_loss` that gives the numbers of one of SMP's losses.

    Raises:
        LeftError: the numbers differ, or may.
    """
    import segcore_smp

    arguments = Arguments.of(call, getattr(segcore_smp.losses, title), context)
    if title in REGION:
        return _region(call, REGION[title], arguments)
    if title == "FocalLoss":
        return _focal(call, arguments)
    if title == "LovaszLoss":
        return _lovasz(call, arguments)
    if title == "SoftCrossEntropyLoss":
        return _ce(call, arguments)
    if title == "SoftBCEWithLogitsLoss":
        return _bce(call, arguments)
    raise LeftError("it takes probabilities; segcore.create_loss('mcc', mode='binary') takes logits")


def _kept(arguments: Arguments, *names: str) -> list[cst.Arg]:
    """Return the arguments that have the same name in both."""
    return [
        keyword(name, arguments.given[name].value, arguments.given[name]) for name in arguments.given if name in names
    ]


def _call(call: cst.Call, name: str, mode: str, arguments: Arguments, *groups: list[cst.Arg]) -> cst.Call:
    first = [cst.Arg(cst.SimpleString(f'"{name}"')), keyword("mode", f'"{mode}"', arguments.given.get("mode"))]
    return written(call, "segcore.create_loss", [*first, *(arg for group in groups for arg in group)])


def _mode(arguments: Arguments) -> str:
    mode = arguments.value("mode")
    if mode not in {"binary", "multiclass", "multilabel"}:
        raise LeftError(f"there is no mode {mode!r}")
    return str(mode)


def _logits(arguments: Arguments) -> None:
    if arguments.value("from_logits") is not True:
        raise LeftError("from_logits: losses of segcore take logits only; drop the activation of the model")


def _region(call: cst.Call, name: str, arguments: Arguments) -> cst.Call:
    mode = _mode(arguments)
    _logits(arguments)
    if mode != "binary":
        raise LeftError(_ABSENT.format(name=name, mode=mode))
    for option, plain in ("log_loss", False), ("gamma", 1.0), ("eps", 1e-7):
        if option in arguments.given and arguments.value(option) != plain:
            raise LeftError(f"{option}: losses of segcore have no such option, or mean something else by it")
    smooth = [] if "smooth" in arguments.given else [keyword("smooth", "0.0")]
    kept = _kept(arguments, "ignore_index", "smooth", "alpha", "beta")
    return _call(call, name, mode, arguments, kept, smooth, [keyword("absent", '"skip"')])


def _focal(call: cst.Call, arguments: Arguments) -> cst.Call:
    mode = _mode(arguments)
    _logits(arguments)
    if "normalized" in arguments.given or "reduced_threshold" in arguments.given:
        raise LeftError("normalized, reduced_threshold: losses of segcore have no such options")
    if arguments.value("reduction") != "mean":
        raise LeftError("reduction: with several classes SMP takes the mean of theirs")
    if mode == "multilabel" and arguments.value("ignore_index") is not None:
        raise LeftError("ignore_index: the mean of the means of classes differs from that of all pixels")
    if "class_weights" in arguments.given:
        raise LeftError("class_weights: SMP weighs the means of classes; weight in segcore weighs pixels")
    sigmoid = [keyword("activation", '"sigmoid"')] if mode == "multiclass" else []
    return _call(call, "focal", mode, arguments, _kept(arguments, "ignore_index", "gamma", "alpha"), sigmoid)


def _lovasz(call: cst.Call, arguments: Arguments) -> cst.Call:
    mode = _mode(arguments)
    if mode == "multilabel":
        raise LeftError("multilabel: SMP sorts the errors of all classes together, segcore those of each")
    if arguments.value("per_image") is not False and mode == "multiclass":
        raise LeftError("per_image: SMP takes the mean of the images' means, segcore that of all their classes")
    return _call(call, "lovasz", mode, arguments, _kept(arguments, "ignore_index", "per_image"))


def _ce(call: cst.Call, arguments: Arguments) -> cst.Call:
    if "ignore_index" in arguments.given and arguments.value("ignore_index") is not None:
        raise LeftError("ignore_index: SMP's mean is over ignored pixels too, that of segcore's 'ce' over the others")
    if arguments.value("dim") != 1 or arguments.value("reduction") not in {"mean", "sum"}:
        raise LeftError("dim, reduction: segcore has classes in the second dimension, and a mean or a sum")
    smoothing = _renamed(arguments, "smooth_factor", "label_smoothing")
    return _call(call, "ce", "multiclass", arguments, smoothing, _kept(arguments, "reduction"))


def _renamed(arguments: Arguments, old: str, new: str) -> list[cst.Arg]:
    if old not in arguments.given or arguments.value(old) is None:
        return []
    return [keyword(new, arguments.given[old].value, arguments.given[old])]


def _bce(call: cst.Call, arguments: Arguments) -> cst.Call:
    if "ignore_index" in arguments.given and arguments.value("ignore_index") is not None:
        raise LeftError("ignore_index: SMP's mean is over ignored pixels too, that of segcore's 'bce' over the others")
    for option in ("weight", "pos_weight", "smooth_factor"):
        if option in arguments.given and arguments.value(option) is not None:
            raise LeftError(f"{option}: its shape, or its meaning, differs in segcore")
    if arguments.value("reduction") not in {"mean", "sum"}:
        raise LeftError("reduction: a mean or a sum is certain")
    return _call(call, "bce", "multilabel", arguments, _kept(arguments, "reduction"))
