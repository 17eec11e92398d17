"""The one model class: an encoder, a decoder, a segmentation head and, if wanted, a classification head."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcore.errors import InputError

Masks = Tensor | dict[str, Tensor]


class SegmentationModel(nn.Module):
    """Assembles four parts; `segcore.create_model` builds the parts by name.

    Args:
        encoder: a module with `EncoderMixin`.
        decoder: a `Decoder` built from the encoder's `feature_info`.
        segmentation_head: called with the decoder's output and the size (H, W) of the image.
        classification_head: called with the deepest feature map, if given.
        config: how the model was made, JSON-able; without it the model cannot be saved as a checkpoint.

    Example:
        >>> from segcore.testing import TinyEncoder, TinyDecoder
        >>> encoder = TinyEncoder()
        >>> decoder = TinyDecoder(encoder.feature_info)
        >>> model = SegmentationModel(encoder, decoder, decoder.default_head(classes=2))
        >>> model(torch.zeros(1, 3, 50, 70)).shape
        torch.Size([1, 2, 50, 70])
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        segmentation_head: nn.Module,
        classification_head: nn.Module | None = None,
        *,
        config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.segmentation_head = segmentation_head
        self.classification_head = classification_head
        self.config = config
        self._encoder_frozen = False

    def forward(self, x: Tensor) -> Masks | tuple[Masks, Tensor]:
        """Return the mask of a batch of images, and their labels if there is a classification head.

        Args:
            x: floating-point tensor (N, in_channels, H, W), normalised as the encoder's weights ask.

        Returns:
            Mask (N, classes, H, W): logits, unless an activation was asked for. With a classification head
            ``(mask, label)``, label (N, labels).

        Raises:
            InputError: for another rank, dtype or number of channels.
        """
        self._check(x)
        height, width = x.shape[-2:]
        multiple: int = self.encoder.size_multiple  # type: ignore[assignment]
        if multiple > 1:
            x = F.pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate")
        if self.decoder.reads_prefix_tokens:
            features, prefix = self.encoder.forward_with_prefix(x)  # type: ignore[operator]
            decoded = self.decoder(features, prefix)
        else:
            features = self.encoder(x)
            decoded = self.decoder(features)
        mask = self.segmentation_head(decoded, x.shape[-2:])
        if multiple > 1:
            mask = _crop(mask, height, width)
        if self.classification_head is None:
            return mask  # type: ignore[no-any-return]
        return mask, self.classification_head(features[-1])

    def _check(self, x: Tensor) -> None:
        channels = self.encoder.in_channels
        if not isinstance(x, Tensor):
            raise InputError(f"a tensor is needed, got {type(x).__name__}. Convert with segcore.Preprocessing.")
        if x.ndim != 4:
            hint = " Add the batch dimension with x[None]." if x.ndim == 3 else ""
            raise InputError(
                f"a batch of images (N, {channels}, H, W) is needed, got a tensor of shape {tuple(x.shape)}.{hint}"
            )
        if x.shape[1] != channels:
            raise InputError(
                f"the model takes images of {channels} channels, got shape {tuple(x.shape)}. "
                f"Convert the images, or build the model with in_channels={x.shape[1]}."
            )
        if x.shape[2] == 0 or x.shape[3] == 0:
            raise InputError(f"the images are empty, got shape {tuple(x.shape)}.")
        if not x.is_floating_point():
            raise InputError(f"images must be floating point and normalised, got {x.dtype}. Convert with x.float().")

    @torch.inference_mode()
    def predict(self, x: Tensor) -> Masks | tuple[Masks, Tensor]:
        """Return what ``forward`` gives in evaluation mode, without gradients; the training mode is restored."""
        modes = [(module, module.training) for module in self.modules()]
        try:
            return self.eval()(x)  # type: ignore[no-any-return]
        finally:
            for module, mode in modes:
                module.training = mode

    def freeze_encoder(self) -> None:
        """Stop training the encoder: no gradients, and evaluation mode (norm statistics, no stochastic layers)."""
        self._set_encoder_frozen(True)

    def unfreeze_encoder(self) -> None:
        """Train the encoder again."""
        self._set_encoder_frozen(False)

    def _set_encoder_frozen(self, frozen: bool) -> None:
        self._encoder_frozen = frozen
        self.encoder.requires_grad_(not frozen)
        self.train(self.training)

    def train(self, mode: bool = True) -> SegmentationModel:
        """Set the training mode; a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self._encoder_frozen:
            self.encoder.eval()
        return self

    def save_pretrained(self, folder: str | os.PathLike[str], **facts: Any) -> Path:
        """Write this model as a checkpoint; see `segcore.save_pretrained`, which takes the same arguments."""
        from segcore.checkpoints import save_pretrained  # a face of the assembly layer, which imports this module

        return save_pretrained(self, folder, **facts)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload this model as a checkpoint; see `segcore.push_to_hub`, which takes the same arguments."""
        from segcore.checkpoints import push_to_hub

        return push_to_hub(self, repo_id, **options)


def _crop(mask: Masks, height: int, width: int) -> Masks:
    if isinstance(mask, dict):
        return {name: value[..., :height, :width] for name, value in mask.items()}
    return mask[..., :height, :width]
