"""`predict` and `predict_tiled`: one image of any size to labels, probabilities or logits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from segcore import InputError, OptionValueError, Preprocessing
from segcore_plugin_predict.canvas import Apart, Blender, Cutter, Emit, InPlace
from segcore_plugin_predict.network import Network, Reading, Scores, at_rest, tile_step, trained_size
from segcore_plugin_predict.source import RECORDED, ImageLike, Source, preprocessing_of
from segcore_plugin_predict.tiles import Span, spans

TILE, OVERLAP = 512, 64  # of an image in a program that does not say


def predict(
    model: Network,
    image: ImageLike,
    *,
    output: str = "labels",
    flips: str = "",
    multilabel: bool | None = None,
    threshold: float = 0.5,
    preprocessing: Preprocessing | str | None = RECORDED,
) -> Tensor:
    """Predict one image as a whole, at its own size.

    Args:
        model: a `SegmentationModel`, or any module or function that turns (N, C, H, W) into a mask (N, K, H, W). It is
            put into evaluation mode for the call.
        image: the path of a file; a picture of Pillow's; an array (H, W, C) or (H, W), uint8, uint16 or floating point
            in [0, 1]; or a tensor (C, H, W) of such values. Colours are in the order RGB.
        output: ``"labels"``, ``"probabilities"`` or ``"logits"``.
        flips: test-time augmentation: scores are averaged over the image and its mirror images, left to right
            ``"h"``, top to bottom ``"v"``, or both ways ``"hv"``, four runs.
        multilabel: whether each pixel may belong to several classes; None is True for a model with the activation
            sigmoid and else False.
        threshold: probability in (0, 1) above which a class is present, for one class and for several labels.
        preprocessing: ``"recorded"`` is what belongs to the model; None for a tensor that is prepared already.

    Returns:
        On the CPU, or on the device of an image that is a tensor. Labels: (H, W), uint8, or int32 for more than 256
        classes; of one class 0 and 1; with several labels (K, H, W), uint8 of 0 and 1. Probabilities: (K, H, W),
        float32, sigmoid for one class and for several labels, else softmax. Logits: (K, H, W), float32.

    Raises:
        InputError: the image cannot be read or does not fit the model.
        OptionValueError: for unknown values of the options.
        IncompatiblePartsError: the model does not return one mask of the image's size.
        WeightsError: the model records no preprocessing.
    """
    return predict_tiled(
        model,
        image,
        tile=None,
        output=output,
        flips=flips,
        multilabel=multilabel,
        threshold=threshold,
        preprocessing=preprocessing,
    )


def predict_tiled(
    model: Network,
    image: ImageLike,
    tile: int | tuple[int, int] | str | None = RECORDED,
    overlap: int | tuple[int, int] | None = None,
    *,
    blend: str = "gaussian",
    batch: int = 1,
    output: str = "labels",
    flips: str = "",
    multilabel: bool | None = None,
    threshold: float = 0.5,
    preprocessing: Preprocessing | str | None = RECORDED,
    same_size: bool = False,
    out: Tensor | None = None,
) -> Tensor:
    """Predict one image tile by tile, in memory that does not grow with its height.

    Besides the result, labels need the scores of one tile and of the rows that tiles share; probabilities and logits
    need those of one tile. Scores are blended before an activation is applied. The weights of all tiles sum to 1 at
    every pixel. Where nothing outside a tile could have changed a score the result equals that of the whole image, for
    ``blend="crop"`` if half the overlap is at least what the network sees to each side of a pixel.

    Args:
        model: as in `predict`.
        image: as in `predict`; an array may be mapped from a file, of which each tile is read when it is needed.
        tile: height and width of tiles, in pixels; ``"recorded"`` is the size of the images that the weights were
            trained on, 512 if the model does not record it; None for the whole image. Smaller images are one tile.
        overlap: least number of pixels that neighbours share; None for 64, or a quarter of a tile smaller than 256.
        blend: ``"gaussian"`` or ``"linear"`` weights that fall from a tile's centre, or ``"crop"``, which cuts in the
            middle of each overlap.
        batch: tiles per call of the model. More than 1 helps on a GPU and does not on a CPU.
        output: as in `predict`.
        flips: as in `predict`, for each tile.
        multilabel: as in `predict`.
        threshold: as in `predict`.
        preprocessing: as in `predict`; applied tile by tile.
        same_size: make every tile exactly `tile` pixels, for programs compiled or exported for one size. Tiles no
            longer start at multiples of the network's stride, and small images are padded by repeating their edge.
        out: where to write the result, of its shape and dtype, such as a tensor mapped from a file.

    Returns:
        As `predict`, or `out`.

    Raises:
        InputError: the image cannot be read or does not fit the model, or `out` does not fit the result.
        OptionValueError: for values that cannot work.
        IncompatiblePartsError: as in `predict`.
        WeightsError: as in `predict`.
    """
    reading = Reading.of(model, output, multilabel, threshold)
    scores = Scores(model, flips)
    if not isinstance(batch, int) or batch < 1:
        raise OptionValueError(f"batch={batch!r}: it is a number of tiles, at least 1.")
    step = 1 if same_size else tile_step(model)
    lengths = tile_lengths(tile, model, step)
    least = lengths if same_size and lengths else (0, 0)
    source = Source(image, preprocessing_of(model, preprocessing), least)
    if lengths is None:
        plan = [spans(size, max(size, step), 0, blend, step) for size in source.size]
    else:
        shared = overlaps(overlap, lengths)
        axes = zip(source.size, lengths, shared, strict=True)
        plan = [spans(size, length, common, blend, step) for size, length, common in axes]
    with at_rest(model):
        return _run(scores, source, plan, reading, blend, batch, out)


def predict_together(
    model: Network,
    images: Sequence[ImageLike],
    *,
    output: str = "labels",
    flips: str = "",
    multilabel: bool | None = None,
    threshold: float = 0.5,
    preprocessing: Preprocessing | str | None = RECORDED,
) -> list[Tensor]:
    """Predict whole images of one size in one call of the model; arguments and results are as in `predict`.

    Raises:
        InputError: as in `predict`, or the images differ in size.
    """
    reading = Reading.of(model, output, multilabel, threshold)
    scores = Scores(model, flips)
    how = preprocessing_of(model, preprocessing)
    sources = [Source(image, how) for image in images]
    if len({source.size for source in sources}) != 1:
        sizes = sorted({"{} x {}".format(*source.size) for source in sources})
        raise InputError(f"images that are predicted together have one size, got {', '.join(sizes)}.")
    with at_rest(model):
        predicted = scores(torch.stack([source.part(slice(None), slice(None)) for source in sources]))
        results = []
        for source, each in zip(sources, predicted, strict=True):
            out = _result(None, reading, len(each), source)
            _emitter(reading, out)(0, 0, each)
            results.append(out)
        return results


def tile_lengths(
    tile: int | tuple[int, int] | str | None, model: Network, step: int, otherwise: int = TILE
) -> tuple[int, int] | None:
    """Return height and width of tiles, None for those of the image.

    Args:
        tile: as in `predict_tiled`.
        model: may record the size of its training.
        step: a recorded size is at least this.
        otherwise: what stands for a size that is not recorded.

    Raises:
        OptionValueError: for anything else.
    """
    if tile == RECORDED:
        height, width = trained_size(model) or (otherwise, otherwise)
        return max(height, step), max(width, step)
    if isinstance(tile, int):
        return tile, tile
    if tile is None or (isinstance(tile, tuple) and len(tile) == 2):
        return tile
    raise OptionValueError(f"tile={tile!r}: it is a number of pixels, height and width, {RECORDED!r} or None.")


def overlaps(overlap: int | tuple[int, int] | None, lengths: tuple[int, int], most: int = OVERLAP) -> tuple[int, int]:
    """Return how many rows and columns tiles share at least; without a choice `most`, or a quarter of smaller tiles."""
    if overlap is None:
        return min(most, lengths[0] // 4), min(most, lengths[1] // 4)
    return (overlap, overlap) if isinstance(overlap, int) else overlap


def _run(
    scores: Scores, source: Source, plan: list[list[Span]], reading: Reading, blend: str, batch: int, out: Tensor | None
) -> Tensor:
    adder: Blender | Cutter | None = None
    for rows in plan[0]:
        for group in _groups(plan[1], batch):
            predicted = _predicted(scores, source, rows, group)
            if adder is None:
                out = _result(out, reading, predicted.shape[1], source)
                adder = _adder(plan, reading, blend, out, predicted)
            for index, span in enumerate(group):
                adder.add(rows, span, predicted[index, :, : rows.length, : span.length])
            del predicted  # before the model needs the memory again
    assert out is not None
    return out


def _predicted(scores: Scores, source: Source, rows: Span, group: list[Span]) -> Tensor:
    parts = [source.part(slice(rows.start, rows.stop), slice(span.start, span.stop)) for span in group]
    return scores(parts[0][None] if len(parts) == 1 else torch.stack(parts))


def _groups(row: list[Span], batch: int) -> Iterator[list[Span]]:
    """Yield neighbouring tiles of one size, at most `batch` of them."""
    group: list[Span] = []
    for span in row:
        if group and (len(group) == batch or span.length != group[0].length):
            yield group
            group = []
        group.append(span)
    yield group


def _result(out: Tensor | None, reading: Reading, classes: int, source: Source) -> Tensor:
    size, device = source.size, source.device
    planes = reading.output != "labels" or (classes > 1 and reading.separate(classes))
    shape = (classes, *size) if planes else size
    dtype = torch.float32
    if reading.output == "labels":
        dtype = torch.uint8 if planes or classes <= 256 else torch.int32
    if out is None:
        return torch.empty(shape, dtype=dtype, device=device)
    if tuple(out.shape) != shape or out.dtype != dtype:
        raise InputError(
            f"out must be a tensor of shape {shape} and {dtype} for this result, got {tuple(out.shape)} and "
            f"{out.dtype}."
        )
    return out


def _adder(plan: list[list[Span]], reading: Reading, blend: str, out: Tensor, scores: Tensor) -> Blender | Cutter:
    emit = _emitter(reading, out)
    if blend == "crop":
        return Cutter(emit)
    if reading.output != "labels" and out.device == scores.device:
        return Blender(InPlace(out), emit)
    shared = max(span.length - span.keep for span in plan[0])
    return Blender(Apart(scores.shape[1], shared, out.shape[-1], scores.device), emit)


def _emitter(reading: Reading, out: Tensor) -> Emit:
    def labels(y: int, x: int, scores: Tensor) -> None:
        reading.labels(scores, out[..., y : y + scores.shape[1], x : x + scores.shape[2]])

    def probabilities(y: int, x: int, scores: Tensor) -> None:
        out[:, y : y + scores.shape[1], x : x + scores.shape[2]] = reading.probabilities(scores)

    def logits(y: int, x: int, scores: Tensor) -> None:
        place = out[:, y : y + scores.shape[1], x : x + scores.shape[2]]
        if place.data_ptr() != scores.data_ptr():  # blended in place
            place.copy_(scores)

    return {"labels": labels, "probabilities": probabilities, "logits": logits}[reading.output]
