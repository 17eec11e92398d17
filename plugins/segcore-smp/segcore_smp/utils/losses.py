"""Losses of the training loop: of probabilities, or with an activation of their own."""

# ruff: noqa: ANN001, ANN003, ANN201, ANN204 - signatures equal SMP's, which has no annotations here
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from torch import Tensor, nn

from segcore_smp.base.modules import Activation
from segcore_smp.utils import functional as F
from segcore_smp.utils.base import Loss


class JaccardLoss(Loss):
    """1 - intersection over union of the batch.

    Args:
        eps: added to numerator and denominator.
        activation: applied to the prediction first, as in the models; None if it holds probabilities.
        ignore_channels: channels that do not count.
        **kwargs: ``name``.
    """

    def __init__(
        self,
        eps=1.0,
        activation=None,
        ignore_channels=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.eps = eps
        self.activation = Activation(activation)
        self.ignore_channels = ignore_channels

    def forward(self, y_pr: Tensor, y_gt: Tensor):
        """Return the loss, a scalar."""
        return 1 - F.jaccard(self.activation(y_pr), y_gt, eps=self.eps, ignore_channels=self.ignore_channels)


class DiceLoss(Loss):
    """1 - F beta of the batch.

    Args:
        eps: added to numerator and denominator.
        beta: weight of recall; 1 gives Dice.
        activation: applied to the prediction first; None if it holds probabilities.
        ignore_channels: channels that do not count.
        **kwargs: ``name``.
    """

    def __init__(
        self,
        eps=1.0,
        beta=1.0,
        activation=None,
        ignore_channels=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.eps = eps
        self.beta = beta
        self.activation = Activation(activation)
        self.ignore_channels = ignore_channels

    def forward(self, y_pr: Tensor, y_gt: Tensor):
        """Return the loss, a scalar."""
        score = F.f_score(
            self.activation(y_pr), y_gt, beta=self.beta, eps=self.eps, ignore_channels=self.ignore_channels
        )
        return 1 - score


class L1Loss(nn.L1Loss, Loss):
    """torch's, with a name."""


class MSELoss(nn.MSELoss, Loss):
    """torch's, with a name."""


class CrossEntropyLoss(nn.CrossEntropyLoss, Loss):
    """torch's, with a name."""


class NLLLoss(nn.NLLLoss, Loss):
    """torch's, with a name."""


class BCELoss(nn.BCELoss, Loss):
    """torch's, with a name."""


class BCEWithLogitsLoss(nn.BCEWithLogitsLoss, Loss):
    """torch's, with a name."""
