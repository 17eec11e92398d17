"""What Dice, Jaccard and Tversky losses share."""

# ruff: noqa: ANN204, UP006, UP035, UP045 - signatures equal SMP's, annotations included

from collections.abc import Sequence
from typing import List, Optional

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.loss import _Loss

from segcore_smp.losses._checks import RefusedError, check_batches, check_class_weights, check_mode
from segcore_smp.losses._functional import to_tensor
from segcore_smp.losses.constants import BINARY_MODE, MULTICLASS_MODE

DIMS = (0, 2)  # images and pixels: scores are of the batch


class RegionLoss(_Loss):
    """1 - score of each class over the batch; a class without true pixels costs 0 and counts in the mean."""

    def __init__(
        self,
        mode: str,
        classes: Optional[List[int]] = None,
        log_loss: bool = False,
        from_logits: bool = True,
        smooth: float = 0.0,
        ignore_index: Optional[int] = None,
        eps: float = 1e-7,
        class_weights: Optional[List[float]] = None,
    ):
        check_mode(mode)
        check_class_weights(class_weights, mode)
        if classes is not None and mode == BINARY_MODE:
            raise RefusedError("classes: mode='binary' has one class. Leave them out, or use another mode.")
        super().__init__()
        self.mode = mode
        self.classes = None if classes is None else to_tensor(classes, dtype=torch.long)
        self.from_logits = from_logits
        self.smooth = smooth
        self.eps = eps
        self.log_loss = log_loss
        self.ignore_index = ignore_index
        self.class_weights = None if class_weights is None else to_tensor(class_weights, dtype=torch.float)

    def forward(self, y_pred: Tensor, y_true: Tensor) -> Tensor:
        """Return the loss, a scalar; see the class for shapes."""
        check_batches(y_pred, y_true)
        if self.from_logits:
            log_p = F.log_softmax(y_pred, dim=1) if self.mode == MULTICLASS_MODE else F.logsigmoid(y_pred)
            y_pred = log_p.exp()
        p, y = self._flattened(y_pred, y_true)
        score = self.compute_score(p, y.to(p), smooth=self.smooth, eps=self.eps, dims=DIMS)
        loss = -torch.log(score.clamp_min(self.eps)) if self.log_loss else 1.0 - score
        loss = loss * (y.sum(DIMS) > 0).to(loss.dtype)
        return self.aggregate_loss(loss if self.classes is None else loss[self.classes])

    def _flattened(self, p: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return probabilities and truth as (N, C, P), both 0 where a pixel does not count."""
        n, channels = y.size(0), 1 if self.mode == BINARY_MODE else p.size(1)
        p = p.reshape(n, channels, -1)
        y = y.reshape(n, 1 if self.mode == MULTICLASS_MODE else channels, -1)
        valid = None if self.ignore_index is None else y != self.ignore_index
        if self.mode == MULTICLASS_MODE:
            labels = y if valid is None else y * valid
            y = F.one_hot(labels[:, 0].long(), channels).movedim(-1, 1)
        return (p, y) if valid is None else (p * valid, y * valid)

    def compute_score(
        self,
        output: Tensor,
        target: Tensor,
        smooth: float = 0.0,
        eps: float = 1e-7,
        dims: int | Sequence[int] | None = None,
    ) -> Tensor:
        """Return the score of each class, (C,), of probabilities and truth (N, C, P); subclasses may override it."""
        raise NotImplementedError

    def aggregate_loss(self, loss: Tensor) -> Tensor:
        """Return the mean of the losses of classes (C,), by `class_weights` if given; subclasses may override it."""
        if self.class_weights is None:
            return loss.mean()
        weights = self.class_weights.to(loss.device)
        if self.classes is not None:
            weights = weights[self.classes]
        return (loss * weights).sum() / weights.sum()
