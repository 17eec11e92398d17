"""Loss of the Matthews correlation coefficient (Abhishek and Hamarneh 2021, arXiv 2010.13454)."""

from __future__ import annotations

import torch
from torch import Tensor

from segcore_plugin_losses.base import Loss
from segcore_plugin_losses.processes import totals


class MCCLoss(Loss):
    """1 - correlation of probabilities and truth over the pixels of the batch, of each class.

    The coefficient does not exist for a class that no pixel has, or every pixel; such a class is left out of the mean.
    It counts true negatives, so it suits small objects. Options are those of `Loss`; ``"none"`` gives (C,).
    """

    def compute(self, x: Tensor, y: Tensor, valid: Tensor | None) -> Tensor:
        """Return the loss of what `prepare` gives."""
        p = self.probabilities(x)
        y, valid = self.per_class(x, y, valid)
        dims = (0, *range(2, x.ndim))
        if valid is None:
            count = torch.full((), x.numel() // x.shape[1], device=x.device)
        else:
            p, y = p.masked_fill(~valid, 0), y.masked_fill(~valid, 0)
            count = valid.sum(dims)
        p_sum, y_sum, count = totals(p.sum(dims), y.sum(dims), count)
        share = 1 / count.clamp_min(1).to(x.dtype)
        # means of deviations rather than products of counts, whose difference fp32 would lose
        p_mean, y_mean = p_sum * share, y_sum * share
        dp, dy = p - p_mean.view(1, -1, *[1] * (x.ndim - 2)), y - y_mean.view(1, -1, *[1] * (x.ndim - 2))
        if valid is not None:
            dp, dy = dp.masked_fill(~valid, 0), dy.masked_fill(~valid, 0)
        spread = p_mean * (1 - p_mean) * y_mean * (1 - y_mean)
        counts = (y_mean > 0) & (y_mean < 1)
        coefficient = totals((dp * dy).sum(dims))[0] * share / spread.clamp_min(1e-12).sqrt()
        return self.reduce_classes(1 - coefficient, counts)
