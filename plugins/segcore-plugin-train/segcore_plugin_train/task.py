"""`SegmentationTask`: a model, its loss, its metrics and its optimiser as a Lightning module."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from segcore_plugin_losses import across_processes, metrics
from torch import Tensor

from segcore import IncompatiblePartsError, OptionValueError, SegmentationModel, create_loss
from segcore_plugin_train.engine import LightningModule, OptimizerLRScheduler
from segcore_plugin_train.errors import TrainingError
from segcore_plugin_train.optim import Frozen, MovingAverage, make_optimizer, parameter_groups, schedule
from segcore_plugin_train.sampler import seed_of
from segcore_plugin_train.sharding import InStep, gathered, shard, share_buffers
from segcore_plugin_train.state import like_parameters
from segcore_plugin_train.tiling import by_tiles

MODES = ("binary", "multiclass", "multilabel")
MAIN = "logits"
ASK_EVERY = 20  # batches on a GPU between questions whether the loss is finite; saves look at the weights themselves


class SegmentationTask(LightningModule):
    """Trains a segcore model.

    Batches are (images, labels), or in validation also a list of such with the images' indices, as
    `SegmentationData` gives them. Logged: ``loss`` per step; ``val_loss`` and ``val_iou`` per validation, the mean IoU
    of the classes over all pixels of all processes, from one confusion matrix.

    Args:
        model: with logits as output; of several named outputs ``"logits"`` is measured.
        loss: name (``"dice+ce"``), record, class, or a callable of output and target. None is ``"dice+bce"`` in binary
            mode and ``"dice+ce"`` otherwise, ``"dice+bce"`` for multilabel.
        mode: ``"binary"``, ``"multiclass"`` or ``"multilabel"``; None is binary for one class, else multiclass.
        loss_options: of a loss by name.
        ignore_index: label that does not count.
        optimizer: ``"adamw"`` or ``"sgd"``.
        lr: learning rate.
        encoder_lr: factor of the encoder's learning rate.
        weight_decay: of parameters with more than one dimension.
        lr_schedule: ``"poly"``, ``"cosine"`` or ``"constant"``.
        warmup: steps over which the rate grows to `lr`.
        steps: number of all steps; None asks the trainer.
        freeze: modules that are not trained, by name, pattern or class: ``["encoder"]``, ``["BatchNorm2d"]``.
        unfreeze_epoch: epoch, counted from 0, from which they are; None for never.
        ema: decay of a moving average of the weights, which is then validated and saved; None for none.
        channels_last: whether images and weights lie in memory channel by channel, which is faster on most machines.
        tile: height and width of tiles, in which larger images are validated; None for whole images. Logits are those
            of the whole image if `overlap` is at least twice what the network sees to each side of a pixel.
        overlap: least number of pixels that tiles share.
        seed: of random numbers in the model (dropout): every step begins with one that follows from seed, step and
            process.

    Attributes:
        model: what is trained.
        averaged: its moving average, or None.
        first_step: steps that were done before this trainer began.
        confusion: of the latest validation, of all processes.

    Raises:
        OptionValueError: a value makes no sense.
    """

    def __init__(
        self,
        model: SegmentationModel,
        loss: str | Callable[..., Any] | None = None,
        *,
        mode: str | None = None,
        loss_options: Mapping[str, Any] | None = None,
        ignore_index: int | None = 255,
        optimizer: str = "adamw",
        lr: float = 1e-3,
        encoder_lr: float = 1.0,
        weight_decay: float = 0.01,
        lr_schedule: str = "poly",
        warmup: int = 0,
        steps: int | None = None,
        freeze: Sequence[str] = (),
        unfreeze_epoch: int | None = None,
        ema: float | None = None,
        channels_last: bool = False,
        tile: int | None = None,
        overlap: int = 64,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not lr > 0 or not encoder_lr >= 0:
            raise OptionValueError(f"lr={lr!r}, encoder_lr={encoder_lr!r}: positive numbers are needed.")
        self.classes = classes_of(model)
        self.mode = mode or ("binary" if self.classes == 1 else "multiclass")
        if self.mode not in MODES:
            raise OptionValueError(f"mode={mode!r}: it is {', '.join(map(repr, MODES))}.")
        self.model = model
        self.loss = make_loss(loss, self.mode, ignore_index, loss_options)
        self.ignore_index = ignore_index
        self._options = optimizer, lr, encoder_lr, weight_decay
        self._schedule = lr_schedule, warmup, steps
        schedule(lr_schedule, 1, warmup)  # a misspelt name is told now
        self._frozen = Frozen(model, freeze)
        self._unfreeze_epoch = unfreeze_epoch
        self.averaged: SegmentationModel | None = None
        self._average = None if ema is None else MovingAverage(ema)
        if self._average is not None:
            self.averaged = copy.deepcopy(model).requires_grad_(False)
        self._memory = torch.channels_last if channels_last else torch.contiguous_format
        if channels_last:
            self.to(memory_format=torch.channels_last)
        self.seed, self.tile, self.overlap = seed, tile, overlap
        self._restored: dict[str, Any] | None = None
        self._skeleton: tuple[SegmentationModel, ...] = ()  # in a tuple, since it is no part of this module
        self._in_step: InStep | None = None
        self.first_step = self.first_epoch = 0
        self.confusion = self._matrix()
        self.per_image: dict[int, float] = {}
        self._val_loss = (0.0, 0)
        if unfreeze_epoch is None:
            self._frozen.set_gradients(False)

    @property
    def step(self) -> int:
        """Steps done, those before this trainer included."""
        return self.first_step + self.trainer.global_step

    @property
    def result(self) -> SegmentationModel:
        """The model to validate, save and use: the average if there is one."""
        return self.model if self.averaged is None else self.averaged

    def configure_model(self) -> None:
        """Divide the model over the processes, if that is the trainer's strategy; Lightning calls it."""
        if self.device_mesh is None or self._skeleton:
            return
        mesh = self.device_mesh["data_parallel"]
        self._skeleton = (shard(self.model, mesh),)
        if self.averaged is not None:
            shard(self.averaged, mesh)

    def whole_result(self, keep: bool = True) -> SegmentationModel | None:
        """Return `result` with all its weights; every process must call it.

        Args:
            keep: whether this process wants it; None is returned if not.
        """
        if not self._skeleton:
            return self.result if keep else None
        state = gathered(self.result.state_dict(), keep=keep)
        if not keep:
            return None
        self._skeleton[0].load_state_dict(state, assign=True)
        return self._skeleton[0]

    def forward(self, images: Tensor) -> Any:
        """Return what the model gives for images (N, C, H, W)."""
        return self.model(images.contiguous(memory_format=self._memory))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        images, labels = batch[0], batch[1]
        output = without_label(self(images))
        with across_processes():
            loss: Tensor = self.loss(output, labels)
        asked = self.device.type == "cpu" or batch_idx % ASK_EVERY == 0  # elsewhere an answer waits for the device
        if asked and not torch.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss.item()} at step {self.step + 1}. What was saved before is kept. Lower "
                f"the learning rate (--lr), clip gradients (--clip 1), or train with --precision 32."
            )
        self.log("loss", loss.detach(), prog_bar=True)
        return loss

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        """Seed the random numbers of this step."""
        part = batch_idx % self.trainer.accumulate_grad_batches
        torch.manual_seed(seed_of("step", self.seed, self.step, part, self.global_rank))

    def on_train_epoch_start(self) -> None:
        """Freeze or unfreeze what the epoch says."""
        self._rest()

    def _is_frozen(self) -> bool:
        epoch = self.first_epoch + self.current_epoch
        return self._unfreeze_epoch is None or epoch < self._unfreeze_epoch

    def _rest(self) -> None:
        frozen = self._is_frozen()
        if self._unfreeze_epoch is not None and self.trainer.world_size == 1:
            self._frozen.set_gradients(not frozen)  # several processes have agreed on what to exchange
        self._frozen.set_mode(not frozen)

    def on_validation_model_train(self) -> None:
        """Return to training after validation; what is frozen stays in evaluation mode."""
        super().on_validation_model_train()
        self._rest()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:  # noqa: ARG002
        """Keep what is frozen as it is."""
        if self._is_frozen():
            self._frozen.drop_gradients()

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, and take the weights into their average."""
        super().optimizer_step(*args, **kwargs)
        if self._average is not None and self.averaged is not None:
            self._average.update(self.averaged, self.model, self.step - 1)

    def on_validation_epoch_start(self) -> None:
        """Forget what was counted."""
        if self._skeleton:
            share_buffers(self.result)  # DDP does so by itself
            self._in_step = InStep(self.result, self.device)
        self.confusion = self._matrix()
        self.per_image, self._val_loss = {}, (0.0, 0)

    def validation_step(self, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        """Count the pixels of whole images."""
        for images, labels, *rest in batch if isinstance(batch, list) and not isinstance(batch[0], Tensor) else [batch]:
            output = by_tiles(self.result, images, self.tile, self.overlap)
            if output is None:
                output = without_label(self.result(images.contiguous(memory_format=self._memory)))
            total, count = self._val_loss
            self._val_loss = total + float(self.loss(output, labels)) * len(images), count + len(images)
            logits = main_output(output)
            self.confusion.update(logits, labels)
            for index, iou in zip(rest[0] if rest else (), self.iou_of_each(logits, labels), strict=False):
                self.per_image[int(index)] = iou

    def on_validation_epoch_end(self) -> None:
        """Add up the counts of all processes and log what follows from them."""
        if self._in_step is not None:
            self._in_step.finish()
        exact = torch.float32 if self.device.type == "mps" else torch.float64
        loss = torch.tensor(self._val_loss, dtype=exact, device=self.device)
        self.confusion.matrix = self.confusion.matrix.to(self.device)
        self.confusion = self.confusion.reduce()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(loss)
        self.log("val_loss", (loss[0] / loss[1]).float())
        self.log("val_iou", self.confusion.score("iou").float(), prog_bar=True)

    def iou_of_each(self, logits: Tensor, labels: Tensor) -> list[float]:
        """Return the mean IoU of the classes of each image; nan where no pixel counts."""
        return iou_of_each(logits, labels, self.mode, self.ignore_index)

    def _matrix(self) -> metrics.ConfusionMatrix:
        return metrics.ConfusionMatrix(self.classes, self.mode, ignore_index=self.ignore_index)

    def restore(self, optimizer: dict[str, Any], lr_schedule: dict[str, Any], step: int, epoch: int) -> None:
        """Continue at a step of an epoch: the optimiser and the schedule take over these states when they are made."""
        self._restored = {"optimizer": optimizer, "schedule": lr_schedule}
        self.first_step, self.first_epoch = step, epoch

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimiser and its schedule, which counts steps."""
        name, lr, encoder_lr, weight_decay = self._options
        optimizer = make_optimizer(name, parameter_groups(self.model, lr, encoder_lr, weight_decay))
        kind, warmup, steps = self._schedule
        if steps is None:
            steps = int(self.trainer.estimated_stepping_batches)
        rule = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule(kind, steps, warmup))
        if self._restored is not None:
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            optimizer.load_state_dict(like_parameters(self._restored["optimizer"], parameters))
            rule.load_state_dict(self._restored["schedule"])
            self._restored = None
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rule, "interval": "step"}}


def classes_of(model: SegmentationModel) -> int:
    """Return the number of classes that a model was built for.

    Raises:
        OptionValueError: the model was put together by hand.
    """
    if not isinstance(model, SegmentationModel) or not model.config or "classes" not in model.config:
        raise OptionValueError("a model made by segcore.create_model or from_pretrained is needed.")
    if model.config.get("activation") not in {None, "identity"}:
        raise OptionValueError(
            f"the model has the activation {model.config['activation']!r}; losses take logits. "
            f"Build or load it with activation=None."
        )
    return int(model.config["classes"])


def make_loss(
    loss: str | Callable[..., Any] | None, mode: str, ignore_index: int | None, options: Mapping[str, Any] | None
) -> Callable[..., Any]:
    """Return a loss by name, or what was given."""
    given = dict(options or {})
    if loss is not None and not isinstance(loss, str | type):
        if given:
            raise OptionValueError("loss_options belong to a loss by name.")
        return loss
    name = loss or ("dice+ce" if mode == "multiclass" else "dice+bce")
    return create_loss(name, mode=mode, **{"ignore_index": ignore_index, **given})


def without_label(output: Any) -> Any:
    """Return the mask of a model that also gives a label of the image."""
    return output[0] if isinstance(output, tuple) else output


def main_output(output: Any) -> Tensor:
    """Return the logits (N, classes, H, W) of what a model gives.

    Raises:
        IncompatiblePartsError: there are none.
    """
    output = without_label(output)
    if isinstance(output, Mapping):
        output = output.get(MAIN)
    if not isinstance(output, Tensor):
        raise IncompatiblePartsError(f"the model must give logits, a tensor or a mapping with {MAIN!r}.")
    return output


def iou_of_each(logits: Tensor, labels: Tensor, mode: str, ignore_index: int | None) -> list[float]:
    """Return the mean IoU of the classes that an image or its prediction has, of each image."""
    tp, fp, fn, _ = metrics.get_stats(logits, labels, mode, ignore_index)
    union = (tp + fp + fn).double()
    return (tp / union).nanmean(1).tolist()
