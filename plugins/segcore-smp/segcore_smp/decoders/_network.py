"""`NetworkDecoder`: one of segcore's decoders, with SMP's interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

import segcore
from segcore_smp.encoders._base import feature_info
from segcore_smp.view import View


class NetworkDecoder(View):
    """Base of the decoders; computes as SMP does, and takes any size."""

    def _build(
        self, name: str, widths: Sequence[int], output_stride: int = 32, order: Sequence[str] = (), **options: Any
    ) -> None:
        """Build segcore's decoder of a name.

        Args:
            name: segcore's.
            widths: channels of the encoder's maps, strides 1, 2, 4, ...; 0 for a level that it lacks.
            output_stride: of the deepest map.
            order: in which SMP registers the children, where that differs.
            **options: of the decoder.
        """
        nn.Module.__init__(self)
        info = feature_info(widths, output_stride)
        before = torch.get_rng_state()
        net = segcore.create_decoder(name, info, legacy=True, **options)
        reorder(net, order)
        torch.set_rng_state(before)
        draw_default(net)
        self._show(net)
        self.out_channels = net.out_channels
        self.stride = net.output_stride

    def forward(self, features: list[Tensor]) -> Tensor:
        """Fuse the maps, finest first, the image's included; a level of 0 channels is left out."""
        return self._net([feature for feature in features if feature.shape[1] > 0])  # type: ignore[no-any-return]


def reorder(module: nn.Module, order: Sequence[str]) -> None:
    """Put the named children first, in this order."""
    children = dict(module.named_children())
    module._modules.clear()
    module._modules.update({name: children.pop(name) for name in order if name in children} | children)


def draw_default(module: nn.Module) -> None:
    """Draw convolutions and linear layers as torch does when they are made.

    Numbers are drawn by the uniform rule, of which the generator's state depends on their count alone: what follows is
    then drawn as after SMP's own construction.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            part.reset_parameters()


def legacy_norm(use_norm: Any) -> Any:
    """Return segcore's norm for SMP's ``use_norm``.

    Raises:
        ValueError: an unknown norm.
    """
    if isinstance(use_norm, bool):
        return "batchnorm" if use_norm else "identity"
    return use_norm.lower() if isinstance(use_norm, str) else use_norm


def check_blocks(n_blocks: int, channels: Sequence[int]) -> None:
    """Refuse channels for another number of blocks.

    Raises:
        ValueError: the numbers differ.
    """
    if n_blocks != len(channels):
        raise ValueError(
            f"Model depth is {n_blocks}, but you provide `decoder_channels` for {len(channels)} blocks."
            " Give one number per block."
        )
