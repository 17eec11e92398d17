"""How to train a segcore model, on one screen: random crops, a loss, an optimiser. It is ordinary PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcore import Preprocessing


def preprocessing(channels: int) -> Preprocessing:
    """Return what brings images to about zero mean and unit deviation; it is saved with the model."""
    return Preprocessing(mean=(0.5,) * channels, std=(0.25,) * channels)


def train(
    model: nn.Module,
    image: Tensor,
    mask: Tensor,
    *,
    steps: int,
    seed: int,
    crop: int = 96,
    batch: int = 8,
    lr: float = 2e-3,
    on_step: Callable[[float], object] = float,
) -> None:
    """Train a model of one class on random crops of one image; leaves it in evaluation mode.

    Args:
        model: called with (batch, C, crop, crop), returns logits (batch, 1, crop, crop).
        image: (C, H, W) in [0, 1].
        mask: (H, W) bool.
        on_step: called with the loss after every step.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=steps)
    normalise = preprocessing(len(image))
    model.train()
    for _ in range(steps):
        crops = [augment(*random_crop(image, mask, crop, generator), generator) for _ in range(batch)]
        images, masks = (torch.stack(part) for part in zip(*crops, strict=True))
        loss = bce_dice(model(normalise(images)), masks[:, None].float())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        on_step(loss.item())
    model.eval()


def bce_dice(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy, which likes every pixel, plus 1 - Dice, which likes the overlap: a scalar."""
    probability = logits.sigmoid()
    dice = (2 * (probability * target).sum() + 1) / (probability.sum() + target.sum() + 1)
    return F.binary_cross_entropy_with_logits(logits, target) + 1 - dice


def random_crop(image: Tensor, mask: Tensor, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Cut a square out of (C, H, W) and the same square out of (H, W); smaller if the image is."""
    size = min(size, *mask.shape)
    top, left = (int(torch.randint(side - size + 1, (), generator=generator)) for side in mask.shape)
    here = (..., slice(top, top + size), slice(left, left + size))
    return image[here], mask[here]


def augment(image: Tensor, mask: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Flip and turn both; change the contrast and the light of the image (C, S, S), which stays in [0, 1]."""
    flip, turns = (int(torch.randint(n, (), generator=generator)) for n in (2, 4))
    if flip:
        image, mask = image.flip(-1), mask.flip(-1)
    image, mask = image.rot90(turns, (-2, -1)), mask.rot90(turns, (-2, -1))
    gamma, bright, down, right = (2 * torch.rand(4, generator=generator) - 1).tolist()
    ramp = torch.linspace(-1, 1, image.shape[-1])
    light = 1 + 0.2 * bright + 0.25 * (down * ramp[:, None] + right * ramp)
    return (image ** (1.5**gamma) * light).clamp(0, 1), mask
