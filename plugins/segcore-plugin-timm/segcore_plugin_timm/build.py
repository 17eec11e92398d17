"""Builds timm's feature networks: the one place that imports timm."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from segcore import IncompatiblePartsError, OptionValueError, guard_torchvision
from segcore_plugin_timm.architectures import MEASURED_WITH

UNPRUNED = frozenset({"CoaT", "CrossVit", "EfficientViM", "EfficientViMDistilled"})
"""Networks in which timm's pruning leaves parameters behind that no feature needs."""

_WRAPPING = ("features_only", "out_indices", "feature_cls")


def create_model(name: str, **arguments: Any) -> nn.Module:
    """Return ``timm.create_model(name, **arguments)``, importing timm behind the guard."""
    guard_torchvision()
    import timm

    return timm.create_model(name, **arguments)


def features_network(
    name: str,
    *,
    indices: Sequence[int] | None = None,
    in_channels: int = 3,
    output_stride: int | None = None,
    img_size: tuple[int, int] | None = None,
    dynamic: bool = False,
    norm: bool = False,
    drop_path_rate: float | None = None,
) -> nn.Module:
    """Return timm's ``features_only`` network of an architecture, without the modules that no feature needs.

    Args:
        name: timm's name.
        indices: positions among timm's features, ascending; None for timm's choice.
        in_channels: channels of the image.
        output_stride: deepest stride; None for the network's own.
        img_size: (H, W) to build for; None for the network's own.
        dynamic: ask for position embeddings that follow the size of the image.
        norm: apply the final norm to every feature.
        drop_path_rate: None for timm's default.

    Raises:
        OptionValueError: if the architecture does not take an option.
    """
    arguments: dict[str, Any] = {"features_only": True, "in_chans": in_channels}
    wishes = {
        "out_indices": None if indices is None else tuple(indices),
        "output_stride": output_stride,
        "img_size": img_size,
        "dynamic_img_size": dynamic or None,
        "drop_path_rate": drop_path_rate,
    }
    arguments |= {key: value for key, value in wishes.items() if value is not None}
    if norm:
        guard_torchvision()
        from timm.models._features import FeatureGetterNet

        arguments["feature_cls"] = partial(FeatureGetterNet, norm=True)  # create_model has no argument for it
    try:
        network = create_model(name, **arguments)
        if type(network).__name__ == "FeatureHookNet":
            plain = create_model(name, **{key: arguments[key] for key in arguments if key not in _WRAPPING})
            return _UnhookedNetwork(network, plain)
    except TypeError as error:
        refused = [key for key in ("output_stride", "img_size", "drop_path_rate") if f"'{key}'" in str(error)]
        if not refused:
            raise
        given = arguments.get(refused[0])
        raise OptionValueError(f"{refused[0]}={given!r}: {name!r} does not take it; leave it out.") from error
    return _prune(network)


def _prune(network: nn.Module) -> nn.Module:
    """Drop what timm's wrappers build although no requested feature needs it."""
    wrapper = type(network).__name__
    if wrapper in {"EfficientNetFeatures", "MobileNetV3Features"}:
        last = max(network._stage_out_idx)  # type: ignore[arg-type]
        network.blocks = network.blocks[:last]  # type: ignore[index]
    elif wrapper == "HighResolutionNetFeatures":
        last = max(network._out_idx)  # type: ignore[arg-type]
        if last == 0:
            return _StemNetwork(network)
        if network.incre_modules is not None:
            network.incre_modules = network.incre_modules[:last]  # type: ignore[index]
        final: Any = network.stage4[-1]  # type: ignore[index]
        final.fuse_layers = final.fuse_layers[:last]
    return network


def freeze_unused(network: nn.Module, in_channels: int, height: int, width: int) -> None:
    """Stop the training of parameters that no feature of an `UNPRUNED` network depends on."""
    if type(getattr(network, "model", None)).__name__ not in UNPRUNED:
        return
    twin = copy.deepcopy(network).to("meta").eval()
    features = twin(torch.empty(1, in_channels, height, width, device="meta"))
    torch.stack([feature.sum() for feature in features]).sum().backward()  # type: ignore[no-untyped-call]
    for parameter, counterpart in zip(network.parameters(), twin.parameters(), strict=True):
        parameter.requires_grad_(counterpart.grad is not None)


class _StemNetwork(nn.Module):
    """The first map of a high-resolution network, whose other maps all need all of its branches."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.feature_info, self.pretrained_cfg = network.feature_info, network.pretrained_cfg
        self.conv1, self.bn1, self.act1 = network.conv1, network.bn1, network.act1

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the one feature (N, C, H/2, W/2)."""
        return [self.act1(self.bn1(self.conv1(x)))]


class _UnhookedNetwork(nn.Module):
    """A hook-based feature network of timm whose features come from the model's own ``forward_intermediates``.

    Hooks keep the last features alive, break ``torch.compile`` and need the whole network.
    """

    def __init__(self, hooked: Any, plain: Any) -> None:
        super().__init__()
        if not hasattr(plain, "prune_intermediate_layers"):
            raise IncompatiblePartsError(f"{type(plain).__name__} needs timm {MEASURED_WITH} or newer as an encoder.")
        self.feature_info = hooked.feature_info
        self.pretrained_cfg = hooked.pretrained_cfg
        self.output_fmt = hooked.output_fmt
        self.body = plain
        count = len(self.feature_info.info)
        wanted = [index % count for index in self.feature_info.out_indices]
        self.out_indices = plain.prune_intermediate_layers(wanted, prune_norm=True)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the features (N, C, H/s, W/s)."""
        return self.body.forward_intermediates(  # type: ignore[no-any-return]
            x, indices=self.out_indices, intermediates_only=True
        )


def gives_prefix_tokens(network: nn.Module) -> int:
    """Return the number of prefix tokens that a network can return beside its features."""
    model = getattr(network, "model", None)
    if model is None or "return_prefix_tokens" not in inspect.signature(model.forward_intermediates).parameters:
        return 0
    return int(getattr(model, "num_prefix_tokens", 0))
