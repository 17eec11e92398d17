"""A training loop over a data loader, and the same for validation."""

# ruff: noqa: ANN001, ANN201, ANN202, ANN204 - signatures equal SMP's, which has no annotations here
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]

from segcore_smp.utils.meter import AverageValueMeter


class Epoch:
    """One pass over a data loader; a subclass says what becomes of a batch.

    Args:
        model: moved to the device, like loss and metrics.
        loss: with a name, as those of `segcore_smp.utils.losses`.
        metrics: with a name each, as those of `segcore_smp.utils.metrics`.
        stage_name: what the progress bar shows.
        device: where batches are computed.
        verbose: shows a progress bar on standard output.
    """

    def __init__(
        self,
        model,
        loss,
        metrics,
        stage_name,
        device="cpu",
        verbose=True,
    ):
        self.model = model
        self.loss = loss
        self.metrics = metrics
        self.stage_name = stage_name
        self.verbose = verbose
        self.device = device
        self._to_device()

    def _to_device(self):
        for module in (self.model, self.loss, *self.metrics):
            module.to(self.device)

    def _format_logs(self, logs: Mapping[str, Any]):
        return ", ".join(f"{name} - {value:.4}" for name, value in logs.items())

    def batch_update(self, x: Tensor, y: Tensor):
        """Return the loss and the prediction of a batch."""
        raise NotImplementedError

    def on_epoch_start(self):
        """Get ready for a pass."""

    def run(self, dataloader):
        """Return the mean of the loss and of each metric over the batches, by name."""
        self.on_epoch_start()
        logs: dict[str, Any] = {}
        of_loss = AverageValueMeter()
        meters = {metric.__name__: AverageValueMeter() for metric in self.metrics}
        with tqdm(dataloader, desc=self.stage_name, file=sys.stdout, disable=not self.verbose) as batches:
            for batch in batches:
                x, y = (part.to(self.device) for part in batch)
                loss, prediction = self.batch_update(x, y)
                of_loss.add(_number(loss))
                logs[self.loss.__name__] = of_loss.mean
                for metric in self.metrics:
                    meters[metric.__name__].add(_number(metric(prediction, y)))
                logs.update((name, meter.mean) for name, meter in meters.items())
                if self.verbose:
                    batches.set_postfix_str(self._format_logs(logs))
        return logs


def _number(value):
    return value.cpu().detach().numpy()


class TrainEpoch(Epoch):
    """A pass that trains the model.

    Args:
        model: as in `Epoch`, like all others.
        loss: with a name.
        metrics: with a name each.
        optimizer: of the model's parameters.
        device: where batches are computed.
        verbose: shows a progress bar.
    """

    def __init__(
        self,
        model,
        loss,
        metrics,
        optimizer,
        device="cpu",
        verbose=True,
    ):
        super().__init__(model, loss, metrics, "train", device, verbose)
        self.optimizer = optimizer

    def on_epoch_start(self):
        """Set the model to training."""
        self.model.train()

    def batch_update(self, x: Tensor, y: Tensor):
        """Take a step and return the loss and the prediction before it."""
        self.optimizer.zero_grad()
        prediction = self.model.forward(x)
        loss = self.loss(prediction, y)
        loss.backward()
        self.optimizer.step()
        return loss, prediction


class ValidEpoch(Epoch):
    """A pass that changes nothing; the options are those of `Epoch`."""

    def __init__(
        self,
        model,
        loss,
        metrics,
        device="cpu",
        verbose=True,
    ):
        super().__init__(model, loss, metrics, "valid", device, verbose)

    def on_epoch_start(self):
        """Set the model to evaluation."""
        self.model.eval()

    def batch_update(self, x: Tensor, y: Tensor):
        """Return the loss and the prediction."""
        with torch.inference_mode():
            prediction = self.model.forward(x)
            return self.loss(prediction, y), prediction
