"""Scores of a whole batch, for probabilities or, with a threshold, for masks."""

# ruff: noqa: ANN001, ANN201, ANN202 - signatures equal SMP's, which has no annotations here
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

import torch


def _prepared(pr, gt, threshold, ignore_channels):
    """Return prediction, thresholded if asked for, and truth, both without the channels that do not count."""
    if threshold is not None:
        pr = (pr > threshold).type(pr.dtype)
    if ignore_channels is None:
        return pr, gt
    left_out = set(ignore_channels)
    kept = torch.tensor([channel for channel in range(pr.shape[1]) if channel not in left_out], dtype=torch.long)
    return pr.index_select(1, kept.to(pr.device)), gt.index_select(1, kept.to(gt.device))


def iou(
    pr,
    gt,
    eps=1e-7,
    threshold=None,
    ignore_channels=None,
):
    """Return the intersection over union of a batch.

    Args:
        pr: prediction (N, C, ...), probabilities.
        gt: truth in the same shape, 0 and 1.
        eps: added to numerator and denominator.
        threshold: probabilities above it become 1, others 0; None leaves them.
        ignore_channels: channels that do not count.

    Returns:
        A scalar.
    """
    pr, gt = _prepared(pr, gt, threshold, ignore_channels)
    both = torch.sum(gt * pr)
    return (both + eps) / (torch.sum(gt) + torch.sum(pr) - both + eps)


jaccard = iou


def f_score(
    pr,
    gt,
    beta=1,
    eps=1e-7,
    threshold=None,
    ignore_channels=None,
):
    """Return F beta of a batch; `beta` is the weight of recall, the other arguments are those of `iou`."""
    pr, gt = _prepared(pr, gt, threshold, ignore_channels)
    tp = torch.sum(gt * pr)
    fp, fn = torch.sum(pr) - tp, torch.sum(gt) - tp
    hits = (1 + beta**2) * tp
    return (hits + eps) / (hits + beta**2 * fn + fp + eps)


def accuracy(pr, gt, threshold=0.5, ignore_channels=None):
    """Return the share of values that are equal; the arguments are those of `iou`."""
    pr, gt = _prepared(pr, gt, threshold, ignore_channels)
    return torch.sum(gt == pr, dtype=pr.dtype) / gt.numel()


def precision(
    pr,
    gt,
    eps=1e-7,
    threshold=None,
    ignore_channels=None,
):
    """Return the share of the prediction that is true; the arguments are those of `iou`."""
    pr, gt = _prepared(pr, gt, threshold, ignore_channels)
    tp = torch.sum(gt * pr)
    fp = torch.sum(pr) - tp
    return (tp + eps) / (tp + fp + eps)


def recall(
    pr,
    gt,
    eps=1e-7,
    threshold=None,
    ignore_channels=None,
):
    """Return the share of the truth that is predicted; the arguments are those of `iou`."""
    pr, gt = _prepared(pr, gt, threshold, ignore_channels)
    tp = torch.sum(gt * pr)
    fn = torch.sum(gt) - tp
    return (tp + eps) / (tp + fn + eps)
