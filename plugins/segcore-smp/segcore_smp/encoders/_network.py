"""`NetworkEncoder`: one of segcore's encoders, with SMP's interface and names of parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

import segcore
from segcore_smp.encoders._base import EncoderMixin
from segcore_smp.view import View, share


class NetworkEncoder(View, EncoderMixin):
    """Base of the encoders that have a name of their own.

    All stages are built, whatever the depth, since SMP's checkpoints hold them; those beyond the depth are not computed
    and not trained. A subclass may build parts that only checkpoints need (`_complete`), name tensors as SMP does
    (`_names`), and draw them in SMP's order (`_draw`).
    """

    _options: Mapping[str, Any] = {}
    _dilated: int = 32
    _is_torch_scriptable = False
    _classifier: tuple[str, ...] = ("fc.", "last_linear.", "classifier.", "head.", "_fc.", "linear.")
    _draw: Callable[[nn.Module], None] | None = None

    def _build(self, network: str, out_channels: Iterable[int], depth: int, output_stride: int) -> None:
        """Build segcore's encoder of a name.

        Raises:
            ValueError: a depth that is not 1 to 5.
        """
        if depth not in range(1, 6):
            raise ValueError(f"depth={depth!r}: {type(self).__name__} has depths 1 to 5.")
        nn.Module.__init__(self)
        self._network = network
        before = torch.get_rng_state()
        tree = segcore.create_encoder(network)
        self._complete(tree)
        if self._draw is not None and not next(tree.parameters()).is_meta:
            torch.set_rng_state(before)
            self._draw(tree)
        self._out_channels, self._depth = list(out_channels), depth
        self._in_channels, self._output_stride = 3, output_stride
        self._first_conv = tree._first_conv  # type: ignore[assignment]
        self._show(tree)
        self._rename(self._names(tree))
        self._renew()

    def _complete(self, tree: nn.Module) -> None:
        """Add modules that checkpoints of SMP hold and no feature needs."""

    def _names(self, tree: nn.Module) -> dict[str, str]:  # noqa: ARG002 - for overriding
        """Return the names of modules in SMP's state dicts, by own path, where they differ."""
        return {}

    def _renew(self) -> None:
        """Build the net that computes, without memory, and give it the tree's tensors."""
        with torch.device("meta"):
            net = segcore.create_encoder(
                self._network, depth=self._depth, in_channels=self._in_channels, **self._dilation(self._dilated)
            )
        self.__dict__["_net"] = share(net, self._tree, replace=True).train(self.training)
        computed = {name for name, _ in net.named_parameters()}
        self._unused = frozenset(name for name, _ in self.named_parameters() if name not in computed)
        for name, parameter in self.named_parameters():
            if name in self._unused:
                parameter.requires_grad = False

    def _dilation(self, output_stride: int) -> dict[str, Any]:
        return {} if output_stride == 32 else {"output_stride": output_stride} | dict(self._options)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return ``depth + 1`` maps, finest first; the level that a transformer lacks has 0 channels."""
        features: list[Tensor] = list(self._net(x))
        if 0 in self.out_channels:
            missing = self.out_channels.index(0)
            features.insert(missing, x.new_empty(x.shape[0], 0, x.shape[2] // 2, x.shape[3] // 2))
        return features

    def set_in_channels(self, in_channels: int, pretrained: bool = True) -> None:  # type: ignore[override]
        """Make the first convolution take images of another number of channels; see `EncoderMixin`."""
        if in_channels == self._in_channels:
            return
        kept = {id(part.weight) for part in self.modules() if isinstance(part, nn.Conv2d)}
        self._tree.set_in_channels(in_channels)  # type: ignore[operator]
        if not pretrained:
            for part in self.modules():
                if isinstance(part, nn.Conv2d) and id(part.weight) not in kept:
                    nn.Conv2d.reset_parameters(part)
        if self._out_channels[0] == self._in_channels:
            self._out_channels = [in_channels, *self._out_channels[1:]]
        self._in_channels = in_channels
        self._renew()

    def make_dilated(self, output_stride: int) -> None:
        """Trade strides for dilation, so that the deepest map has another stride.

        Args:
            output_stride: 8 or 16.

        Raises:
            ValueError: another stride, or a family that cannot be dilated.
        """
        if output_stride not in {8, 16}:
            raise ValueError(f"output_stride={output_stride!r}: an encoder can be dilated to 16 or 8.")
        with torch.device("meta"):
            tree = segcore.create_encoder(self._network, in_channels=self._in_channels, **self._dilation(output_stride))
        extra = {name: child for name, child in self._tree.named_children() if name not in tree._modules}
        self._dilated = output_stride
        for name, child in extra.items():
            tree.add_module(name, child)
        self._show(share(tree, self._tree, replace=False).train(self.training))
        self._renew()

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load weights of the whole network; those of its classifier are left out."""
        own = self.state_dict().keys()
        state = {key: value for key, value in state_dict.items() if key in own or not key.startswith(self._classifier)}
        return super().load_state_dict(state, strict=strict, assign=assign)


def refuse(who: str, given: Mapping[str, Any]) -> None:
    """Refuse arguments that would make another network.

    Raises:
        UnknownOptionError: there are some.
    """
    if given:
        raise segcore.UnknownOptionError(
            f"{who}: {', '.join(map(repr, sorted(given)))} would make a network that segcore has no name for. Choose "
            f"one of segcore_smp.encoders.get_encoder_names(), or write an encoder of your own with EncoderMixin."
        )


def entry(cls: type, name: str, **params: Any) -> dict[str, Any]:
    """Return the row of SMP's table of encoders for a name.

    Args:
        cls: the encoder's class.
        name: segcore's and SMP's.
        **params: arguments of the class; ``out_channels`` comes from segcore's record.
    """
    spec = segcore.encoders[name]
    channels = list(spec.out_channels or ())
    if 2 not in spec.nominal_strides:
        channels.insert(1, 0)
    settings = {}
    for tag, weights in spec.weights.items():
        settings[tag] = {
            "repo_id": weights.url.removeprefix("hf://").rpartition("/")[0],
            "revision": weights.revision,
        }
    return {"encoder": cls, "pretrained_settings": settings, "params": {"out_channels": channels, **params}}
