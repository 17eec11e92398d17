"""Loss of the Matthews correlation coefficient."""

# ruff: noqa: ANN204 - signatures equal SMP's, annotations included

import torch
from torch import Tensor
from torch.nn.modules.loss import _Loss


class MCCLoss(_Loss):
    """1 - correlation of probabilities and truth over the batch (Abhishek and Hamarneh 2021, arXiv 2010.13454).

    For one class. It takes probabilities, not logits.

    Args:
        eps: added to each of the four counts.
    """

    def __init__(self, eps: float = 1e-5):
        super().__init__()
        self.eps = eps

    def forward(self, y_pred: Tensor, y_true: Tensor) -> Tensor:
        """Return the loss, a scalar; products of counts in fp16 are taken in fp32.

        Args:
            y_pred: probabilities (N, ...) or (N, 1, ...).
            y_true: 0 and 1, (N, ...) or (N, 1, ...).
        """
        n = y_true.shape[0]
        p, y = y_pred.reshape(n, 1, -1), y_true.reshape(n, 1, -1)
        p = p.float() if p.dtype is torch.float16 else p
        y = y.to(p.dtype) if y.dtype in {torch.bool, torch.float16} else y
        tp = (p * y).sum() + self.eps
        tn = ((1 - p) * (1 - y)).sum() + self.eps
        fp = (p * (1 - y)).sum() + self.eps
        fn = ((1 - p) * y).sum() + self.eps
        both = tp * tn - fp * fn
        spread = ((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)).sqrt()
        return (1.0 - both / spread).to(y_pred.dtype)
