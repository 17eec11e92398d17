"""Metrics of the training loop, each the score of a batch in `segcore_smp.utils.functional`."""

# ruff: noqa: ANN001, ANN003, ANN201, ANN204 - signatures equal SMP's, which has no annotations here
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from torch import Tensor

from segcore_smp.base.modules import Activation
from segcore_smp.utils import functional as F
from segcore_smp.utils.base import Metric


class _Overlap(Metric):
    """What the scores share that divide by a sum of pixels."""

    def __init__(
        self,
        eps=1e-7,
        threshold=0.5,
        activation=None,
        ignore_channels=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.eps = eps
        self.threshold = threshold
        self.activation = Activation(activation)
        self.ignore_channels = ignore_channels


class IoU(_Overlap):
    """Intersection over union of a batch.

    Args:
        eps: added to numerator and denominator.
        threshold: of probabilities; None leaves them as they are.
        activation: applied to the prediction first; None if it holds probabilities.
        ignore_channels: channels that do not count.
        **kwargs: ``name``.
    """

    __name__ = "iou_score"

    def forward(self, y_pr: Tensor, y_gt: Tensor):
        """Return the score, a scalar."""
        return F.iou(self.activation(y_pr), y_gt, self.eps, self.threshold, self.ignore_channels)


class Fscore(Metric):
    """F beta of a batch; `beta` is the weight of recall, the other options are those of `IoU`."""

    def __init__(
        self,
        beta=1,
        eps=1e-7,
        threshold=0.5,
        activation=None,
        ignore_channels=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.eps = eps
        self.beta = beta
        self.threshold = threshold
        self.activation = Activation(activation)
        self.ignore_channels = ignore_channels

    def forward(self, y_pr: Tensor, y_gt: Tensor):
        """Return the score, a scalar."""
        return F.f_score(self.activation(y_pr), y_gt, self.beta, self.eps, self.threshold, self.ignore_channels)


class Accuracy(Metric):
    """Share of values of a batch that are right; the options are those of `IoU`."""

    def __init__(
        self,
        threshold=0.5,
        activation=None,
        ignore_channels=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.threshold = threshold
        self.activation = Activation(activation)
        self.ignore_channels = ignore_channels

    def forward(self, y_pr: Tensor, y_gt: Tensor):
        """Return the score, a scalar."""
        return F.accuracy(self.activation(y_pr), y_gt, self.threshold, self.ignore_channels)


class Recall(_Overlap):
    """Share of the truth of a batch that is predicted; the options are those of `IoU`."""

    def forward(self, y_pr: Tensor, y_gt: Tensor):
        """Return the score, a scalar."""
        return F.recall(self.activation(y_pr), y_gt, self.eps, self.threshold, self.ignore_channels)


class Precision(_Overlap):
    """Share of the prediction of a batch that is true; the options are those of `IoU`."""

    def forward(self, y_pr: Tensor, y_gt: Tensor):
        """Return the score, a scalar."""
        return F.precision(self.activation(y_pr), y_gt, self.eps, self.threshold, self.ignore_channels)
