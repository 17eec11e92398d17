"""A model as a function from prepared images to scores, whatever the model is and however it was left."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeGuard

import torch
from torch import Tensor, nn

from segcore import IncompatiblePartsError, OptionValueError, SegmentationModel, make_activation
from segcore_plugin_predict.extensions import BackendModel

Network = Callable[[Tensor], object]
LARGEST = 4096  # a default size of tiles that a checkpoint may ask for
OUTPUTS = ("labels", "probabilities", "logits")
FLIPS: dict[str, list[tuple[int, ...]]] = {
    "": [()],
    "h": [(), (-1,)],
    "v": [(), (-2,)],
    "hv": [(), (-1,), (-2,), (-2, -1)],
}
_PROBABILITIES = {"sigmoid", "softmax"}


@contextlib.contextmanager
def at_rest(model: Network) -> Iterator[None]:
    """Run in evaluation mode and without gradients; each module's mode is restored."""
    modes = [(module, module.training) for module in model.modules()] if isinstance(model, nn.Module) else []
    try:
        for module, _ in modes:
            module.training = False
        with torch.inference_mode():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def described(model: object) -> TypeGuard[BackendModel]:
    """Return whether a model says itself what it is: ours, or a backend's."""
    return isinstance(model, SegmentationModel) or hasattr(model, "tile_step")


def tile_step(model: Network) -> int:
    """Return the multiple at which tiles must start to be sampled as in the whole image; 1 if nothing is known."""
    if not isinstance(model, SegmentationModel):
        return model.tile_step if described(model) else 1
    strides: tuple[int, ...] = model.encoder.strides  # type: ignore[assignment]
    multiple: int = model.encoder.size_multiple  # type: ignore[assignment]
    return math.lcm(max(strides), multiple)


def trained_size(model: Network) -> tuple[int, int] | None:
    """Return height and width of the images that the weights were trained on, None if the model records none.

    Each is at most `LARGEST`, whatever a checkpoint says: memory grows with it.
    """
    size = (model.config or {}).get("image_size") if described(model) else None
    return (min(int(size[0]), LARGEST), min(int(size[1]), LARGEST)) if size else None


class Scores:
    """Calls a model on batches of tiles and returns its mask as float32, averaged over flips.

    Args:
        model: a module or function from (N, C, H, W) to a mask (N, K, H, W), alone or first of a tuple.
        flips: ``""``, ``"h"``, ``"v"`` or ``"hv"``: what else is predicted and averaged, 1, 2, 2 or 4 runs.

    Raises:
        OptionValueError: for other flips.
    """

    def __init__(self, model: Network, flips: str = "") -> None:
        if flips not in FLIPS:
            raise OptionValueError(f"flips={flips!r} is unknown; it is {', '.join(map(repr, FLIPS))}.")
        self._model = model
        self._flips = FLIPS[flips]
        first: Tensor | None = None
        if isinstance(model, nn.Module):
            tensors = itertools.chain(model.parameters(), model.buffers())
            first = next((tensor for tensor in tensors if tensor.is_floating_point()), None)
        self.device = None if first is None else first.device
        self._dtype = torch.float32 if first is None else first.dtype

    def __call__(self, x: Tensor) -> Tensor:
        """Return the scores (N, K, H, W), float32 on the model's device, of prepared images (N, C, H, W)."""
        x = x.to(self.device, self._dtype)
        total = self._mask(x)
        if len(self._flips) == 1:
            return total
        total = total.clone()  # a model may return what belongs to it
        for axes in self._flips[1:]:
            total += self._mask(x.flip(axes)).flip(axes)
        return total.div_(len(self._flips))

    def _mask(self, x: Tensor) -> Tensor:
        answer = self._model(x)
        mask: object = answer[0] if isinstance(answer, tuple) and answer else answer  # the second is a label
        if not isinstance(mask, Tensor) or mask.ndim != 4 or mask.shape[-2:] != x.shape[-2:] or len(mask) != len(x):
            got = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
            raise IncompatiblePartsError(
                f"predictions are made of one mask (N, classes, H, W) of the image's size; for {tuple(x.shape)} the "
                f"model returned {got}. Load it with activation=None, or wrap it in a function that returns its mask."
            )
        return mask.float()


@dataclass(frozen=True, slots=True)
class Reading:
    """How scores become what was asked for.

    Attributes:
        output: ``"labels"``, ``"probabilities"`` or ``"logits"``.
        probable: whether the model gives probabilities itself; otherwise logits.
        multilabel: whether a pixel may belong to several classes; None is what the model's activation says.
        threshold: probability above which a class is present, for one class and for several labels.
    """

    output: str
    probable: bool
    multilabel: bool | None
    threshold: float

    @classmethod
    def of(cls, model: Network, output: str, multilabel: bool | None, threshold: float) -> Reading:
        """Return how the scores of a model are read.

        Raises:
            OptionValueError: for unknown values, or what cannot be computed from what the model gives.
        """
        if output not in OUTPUTS:
            raise OptionValueError(f"output={output!r} is unknown; it is {', '.join(map(repr, OUTPUTS))}.")
        if not 0 < threshold < 1:
            raise OptionValueError(f"threshold={threshold!r} is a probability between 0 and 1.")
        config = model.config if described(model) else None
        activation = (config or {}).get("activation")
        if activation not in {None, "identity", *_PROBABILITIES} or (
            activation in _PROBABILITIES and output == "logits"
        ):
            raise OptionValueError(
                f"the model applies activation={activation!r} itself, and {output} are made of logits. Load it with "
                f"segcore.from_pretrained(..., activation=None)."
            )
        if multilabel is None and activation in _PROBABILITIES:
            multilabel = activation == "sigmoid"
        return cls(output, activation in _PROBABILITIES, multilabel, threshold)

    def separate(self, classes: int) -> bool:
        """Return whether each class is decided by itself."""
        return classes == 1 or bool(self.multilabel)

    def probabilities(self, scores: Tensor) -> Tensor:
        """Turn scores (K, H, W) into probabilities."""
        if self.probable:
            return scores
        if self.separate(len(scores)):
            return scores.sigmoid()
        return make_activation("softmax")(scores[None])[0]  # type: ignore[no-any-return]

    def labels(self, scores: Tensor, out: Tensor) -> None:
        """Write the classes of scores (K, H, W) into `out`: (H, W), or (K, H, W) of 0 and 1 for several labels."""
        if not self.separate(len(scores)):
            largest(scores, out)
            return
        level = self.threshold if self.probable else math.log(self.threshold / (1 - self.threshold))
        out.copy_((scores if out.ndim == 3 else scores[0]) > level)


def largest(scores: Tensor, out: Tensor) -> None:
    """Write the index of the largest of scores (K, H, W) into `out` (H, W); of equal ones the first.

    On a CPU a running maximum over planes that fit the cache is several times faster than torch's own reduction over
    an axis that is not the last.
    """
    classes, height, width = scores.shape
    if scores.device.type != "cpu" or out.dtype != torch.uint8:
        out.copy_(scores.max(0).indices)
        return
    rows = max(1, 2**15 // max(width, 1))
    best = scores.new_empty(rows, width)
    greater = torch.empty(rows, width, dtype=torch.bool)
    for top in range(0, height, rows):
        high, index = best[: height - top], out[top : top + rows]
        hit = greater[: height - top]
        high.copy_(scores[0, top : top + rows])
        index.zero_()
        for number in range(1, classes):
            plane = scores[number, top : top + rows]
            torch.gt(plane, high, out=hit)
            torch.maximum(index, hit.view(torch.uint8) * number, out=index)  # later numbers are larger
            torch.maximum(high, plane, out=high)
