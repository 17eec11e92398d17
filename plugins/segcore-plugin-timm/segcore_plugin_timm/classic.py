"""`ClassicEncoder`: the classic families by their usual names, made of the modules of timm's plain networks.

The taps are those of segmentation_models_pytorch 0.6.0, so that its published and trained weights give the same
features; they differ from timm's own in densenet, dpn, mobilenet, xception and both inceptions.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from segcore import EncoderMixin, OptionValueError
from segcore_plugin_timm.build import create_model
from segcore_plugin_timm.families import DILATING, MULTIPLES, classics
from segcore_plugin_timm.keys import match_keys
from segcore_plugin_timm.layouts import LAYOUTS


class ClassicEncoder(nn.Module, EncoderMixin):
    """A plain network of timm's, cut at the taps of its family.

    Keys of the state dict are those of timm's plain network, which are also SMP's, except in mobilenet and mobileone,
    whose SMP names `convert_state_dict` maps. Dilation follows SMP's rule: every convolution of a stage beyond the
    output stride gets stride 1 and one dilation.

    Args:
        name: the classic name, ``"vgg16_bn"``.
        depth: 1 to 5; deeper stages are not built.
        in_channels: channels of the image.
        output_stride: 32, or 16 and 8 for dpn, senet, sknet, mobilenet and mobileone.

    Raises:
        OptionValueError: an option is out of range, or the family cannot be dilated.
    """

    def __init__(self, name: str, depth: int = 5, in_channels: int = 3, output_stride: int = 32) -> None:
        super().__init__()
        row = classics()[name]
        if not 1 <= depth <= 5:
            raise OptionValueError(f"depth={depth!r}: {name!r} has depths 1 to 5.")
        if output_stride not in ((32, 16, 8) if row.family in DILATING else (32,)):
            raise OptionValueError(
                f"output_stride={output_stride!r}: {name!r} "
                + ("has 32, 16 and 8." if row.family in DILATING else "downsamples by pooling and has 32 only.")
                + f" Families that can be dilated: {', '.join(sorted(DILATING))}."
            )
        layout = LAYOUTS[row.family]
        plain = create_model(row.architecture, in_chans=in_channels, num_classes=0, **layout.arguments)
        layout.prepare(plain)
        levels = layout.levels(plain)
        for stride, level in ((16, 4), (32, 5)):
            if stride > output_stride:
                for path in levels[level - layout.first]:
                    _dilate(plain.get_submodule(path), stride // output_stride)
        self._levels_of_modules = levels[: depth + 1 - layout.first]
        for path in (path for level in self._levels_of_modules for path in level):
            _attach(self, path, plain.get_submodule(path))
        self._family = row.family
        self._out_channels = row.channels if layout.first == 0 else (in_channels, *row.channels[1:])
        self._depth, self._in_channels = depth, in_channels
        self._output_stride = output_stride if output_stride < 32 else None
        self._first_conv = tuple(
            f"{layout.first_conv}.{name}".rstrip(".")
            for name, module in self.get_submodule(layout.first_conv).named_modules()
            if isinstance(module, nn.Conv2d) and module.in_channels == in_channels
        )
        self._size_multiple = min(MULTIPLES.get(row.family, 1), 2**depth)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the feature maps (N, C, H/s, W/s), finest first."""
        layout = LAYOUTS[self._family]
        features = [] if layout.first == 0 else [x]
        for level, paths in enumerate(self._levels_of_modules, start=layout.first):
            for path in paths:
                x = self.get_submodule(path)(x)
            features.append(layout.tap(x, level))
        return features

    def convert_state_dict(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return weights with SMP's or timm's names under this network's own keys, without those it does not build."""
        rename = LAYOUTS[self._family].rename
        return match_keys(self.state_dict(), {rename(key): value for key, value in state.items()})


def _attach(root: nn.Module, path: str, module: nn.Module) -> None:
    """Put a module at a dotted path, making the containers on the way."""
    *containers, name = path.split(".")
    for container in containers:
        if container not in root._modules:
            root.add_module(container, nn.Module())
        root = root.get_submodule(container)
    root.add_module(name, module)


def _dilate(module: nn.Module, dilation: int) -> None:
    for conv in module.modules():
        if isinstance(conv, nn.Conv2d):
            conv.stride, conv.dilation = (1, 1), (dilation, dilation)
            conv.padding = tuple(size // 2 * dilation for size in conv.kernel_size)
