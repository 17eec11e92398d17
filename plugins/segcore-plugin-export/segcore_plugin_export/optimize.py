"""`optimize_for_inference`: a model in the fastest form that torch itself offers on this machine."""

from __future__ import annotations

import copy
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from segcore import InputError, OptionValueError, SegmentationModel
from segcore_plugin_export import algebra, casting, folding, kernels, lowering
from segcore_plugin_export.allocator import keep_memory as keep_freed_memory
from segcore_plugin_export.captured import CaptureError, Memory, capture
from segcore_plugin_export.report import Report, deviation, measure
from segcore_plugin_export.spread import spread_taps
from segcore_plugin_export.winograd import use_winograd

PLANS = 4  # sizes of images that are kept ready; each has the weights once
DTYPES = (torch.float32, torch.bfloat16)


class OptimizedModel(SegmentationModel):
    """A copy of a model that computes the same faster, in evaluation mode only; see `optimize_for_inference`.

    Each size of image needs a plan of its own, made when it first comes (about a second); the four used last are
    kept. It is a `SegmentationModel`: ``predict``, ``save_pretrained`` (the exact weights) and everything that takes a
    model takes it. Its weights are a copy; a plan is made from them anew after ``load_state_dict`` or ``to``. Pickled
    and deep copies carry the weights and make their plans themselves.

    Attributes:
        report: what was gained and what it cost in precision, on the sample.
    """

    report: Report
    _notes: tuple[dict[str, int], dict[str, int]]
    _plans: OrderedDict[tuple[int, ...], Callable[[Tensor], Any]]
    _memory: Memory

    def __init__(self, model: SegmentationModel, dtype: torch.dtype, channels_last: bool, compiled: bool) -> None:
        parts = copy.deepcopy(
            (model.encoder, model.decoder, model.segmentation_head, model.classification_head, model.config)
        )
        super().__init__(*parts[:4], config=parts[4])
        self.dtype, self.channels_last, self.compiled = dtype, channels_last, compiled
        self.requires_grad_(False)
        self._forget()
        self.train(False)

    def forward(self, x: Tensor) -> Any:
        """Return what the model gives in evaluation mode, without gradients.

        Args:
            x: float32 tensor (N, in_channels, H, W) on the model's device.

        Raises:
            InputError: for another rank, dtype, device or number of channels.
        """
        self._check(x)
        device = next(self.parameters()).device
        if x.dtype != torch.float32 or x.device != device:
            raise InputError(
                f"an optimised model takes float32 on {device}, got {x.dtype} on {x.device}. Convert the images; "
                f"the type of the computation is chosen by optimize_for_inference(model, dtype=...)."
            )
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            return self._plan(x)(x.detach().contiguous(memory_format=layout))

    def eager(self, x: Tensor) -> Any:
        """Return what the model gives without any of this: what the plans are compared with."""
        return super().forward(x)

    def train(self, mode: bool = True) -> OptimizedModel:
        """Stay in evaluation mode.

        Raises:
            InputError: if training mode is asked for.
        """
        if mode:
            raise InputError("an optimised model cannot be trained. Train the model that it was made from.")
        super().train(False)
        return self

    def _plan(self, x: Tensor) -> Callable[[Tensor], Any]:
        key = tuple(x.shape)
        with self._lock:
            plan = self._plans.pop(key, None)
            if plan is None:
                plan = self._make(x)
            self._plans[key] = plan
            while len(self._plans) > PLANS:
                self._plans.popitem(last=False)
        return plan

    @torch.inference_mode(mode=False)  # in which operators are not split into those that the rules know
    def _make(self, x: Tensor) -> Callable[[Tensor], Any]:
        empty = torch.empty_like(x, memory_format=torch.contiguous_format)
        own = [*self.parameters(), *self.buffers()]
        try:
            captured = capture(self.eager, own, empty, self._memory)
        except CaptureError as error:
            if self.dtype != torch.float32:
                raise InputError(
                    f"this model can only be optimised in float32, since it cannot be captured ({error})."
                ) from error
            self._notes = {}, {f"nothing could be done, the model cannot be captured ({error})": 1}
            return self.eager
        folding.fold_norms(captured)
        algebra.rewrite(captured)
        if self.dtype != torch.float32:
            casting.cast(captured, self.dtype)
        if x.device.type == "cpu" and not self.compiled and kernels.available(self.dtype):
            if self.dtype == torch.float32:
                use_winograd(captured)
            spread_taps(captured)
            lowering.lower(captured)
        self._notes = dict(captured.done), dict(captured.left)
        plan = captured.module()
        if self.compiled:
            return torch.compile(plan, options={"freezing": True} if x.device.type == "cpu" else None)
        return plan

    def _forget(self) -> None:
        self._notes = {}, {}
        self._plans = OrderedDict()
        self._memory = Memory()
        self._lock = threading.RLock()

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self._forget()
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def load_state_dict(self, *arguments: Any, **options: Any) -> Any:
        """Load weights as any module does; plans are made anew."""
        self._forget()
        return super().load_state_dict(*arguments, **options)

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        for name in ("_plans", "_memory", "_lock"):
            del state[name]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._forget()


@torch.inference_mode(mode=False)
def optimize_for_inference(
    model: SegmentationModel,
    sample: Tensor | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    channels_last: bool | str = "auto",
    compile: bool = False,  # noqa: A002 - the word that users know
    keep_memory: bool = False,
    repeats: int = 3,
) -> OptimizedModel:
    """Return a copy of a model that computes the same faster; the model itself stays as it is.

    Batch norms are folded into convolutions; convolutions move in front of the resizes and sums that they commute
    with; on a CPU, convolutions and linear layers become oneDNN's with packed weights, activation and addition
    included. The result is compared with the model on the sample and the report says what came out. On a GPU only
    folding, the order of operators, layout and type apply.

    Args:
        model: made by segcore; its present weights count.
        sample: float32 images (N, in_channels, H, W) for the measurement, of the size that is going to be used and,
            for a measured deviation that means something, prepared as the model wants them; None for one of random
            numbers, 512 x 512.
        dtype: ``torch.float32``, exact up to rounding, or ``torch.bfloat16``, whose deviation the report states.
        channels_last: layout of the maps: True, False, or ``"auto"`` for the faster one on the sample.
        compile: let ``torch.compile`` generate code, which takes half a minute and a C++ compiler, for each size anew.
        keep_memory: let the C library of this process (glibc) keep freed memory instead of returning it to the kernel
            after each forward; see `segcore_plugin_export.keep_memory`.
        repeats: runs of both models for the measurement; the median counts. 0 measures nothing: the speed-up in the
            report is then not a number.

    Returns:
        The model, with its `Report` in ``report``.

    Raises:
        InputError: for something else than a model of segcore's, or a sample that it does not take.
        OptionValueError: for a value that an option cannot take.
    """
    _check_options(model, dtype, channels_last, repeats)
    if keep_memory:
        keep_freed_memory()
    first = next(model.parameters())
    if sample is None:
        generator = torch.Generator().manual_seed(0)
        sample = torch.randn(1, model.encoder.in_channels, 512, 512, generator=generator)  # type: ignore[call-overload]
    sample = sample.to(first.device)
    start = time.perf_counter()
    optimized = OptimizedModel(model, dtype, channels_last is not False, compile)
    optimized(sample)
    seconds = time.perf_counter() - start
    if channels_last == "auto" and not compile:  # compiled code is bound to the layout of its first images
        times = {}
        for layout in (True, False):
            optimized.channels_last = layout
            times[layout] = measure([lambda: optimized(sample)], max(1, repeats))[0]
        optimized.channels_last = times[True] <= 1.05 * times[False]  # the same, within what a measurement can tell
    with torch.no_grad():
        absolute, relative = deviation(optimized.eager(sample), optimized(sample))
    report = Report(
        device=str(first.device),
        dtype=str(dtype).removeprefix("torch."),
        channels_last=optimized.channels_last,
        compiled=compile,
        sample=tuple(sample.shape),
        threads=torch.get_num_threads(),
        preparation=seconds,
        absolute=absolute,
        relative=relative,
        done=optimized._notes[0],
        left=optimized._notes[1],
    )
    if repeats:
        eager, faster = measure([lambda: optimized.eager(sample), lambda: optimized(sample)], repeats)
        report = replace(report, eager=eager, optimized=faster)
    optimized.report = report
    return optimized


def _check_options(model: object, dtype: torch.dtype, channels_last: bool | str, repeats: int) -> None:
    if not isinstance(model, SegmentationModel) or type(model).forward is not SegmentationModel.forward:
        raise InputError(f"a model made by segcore is needed, got {type(model).__name__}.")
    kinds = {tensor.dtype for tensor in model.parameters()} - {torch.float32}
    if kinds:
        raise InputError(f"a model in float32 is needed, got {', '.join(map(str, kinds))}. Call model.float() first.")
    if dtype not in DTYPES:
        raise OptionValueError(f"dtype={dtype!r} is unknown; it is torch.float32 or torch.bfloat16.")
    if next(model.parameters()).device.type == "cpu" and dtype == torch.bfloat16 and not kernels.available(dtype):
        raise OptionValueError("dtype=torch.bfloat16: this processor, or this build of torch, has no bfloat16.")
    if channels_last not in {True, False, "auto"}:
        raise OptionValueError(f"channels_last={channels_last!r} is unknown; it is True, False or 'auto'.")
    if repeats < 0:
        raise OptionValueError(f"repeats={repeats!r}: a number of runs from 0 is needed.")
