"""Layers that people's own decoders are made of."""

# ruff: noqa: ANN001, ANN003, ANN204, A002, UP006, UP007, UP035
# mypy: disable-error-code="no-untyped-def, no-untyped-call, import-not-found, operator"

import inspect
from typing import Any, Dict, Union

import torch
from torch import Tensor, nn

try:
    from inplace_abn import InPlaceABN
except ImportError:
    InPlaceABN = None

NORMS = {
    "batchnorm": nn.BatchNorm2d,
    "identity": lambda _, **__: nn.Identity(),
    "layernorm": nn.LayerNorm,
    "instancenorm": nn.InstanceNorm2d,
    "inplace": InPlaceABN,
}


def get_norm_layer(use_norm: Union[bool, str, Dict[str, Any]], out_channels: int) -> nn.Module:
    """Return a norm.

    Args:
        use_norm: True for batch norm, False for none; ``"batchnorm"``, ``"identity"``, ``"layernorm"``,
            ``"instancenorm"`` or ``"inplace"`` (needs the package inplace_abn); or a dict of ``"type"``, one of these,
            and arguments of the norm.
        out_channels: channels of its input.

    Raises:
        ValueError: none of these.
        RuntimeError: inplace_abn is not installed.
    """
    if isinstance(use_norm, bool):
        use_norm = "batchnorm" if use_norm else "identity"
    if isinstance(use_norm, str):
        use_norm = {"type": use_norm.lower()}
        if use_norm["type"] == "inplace":
            use_norm |= {"activation": "leaky_relu", "activation_param": 0.0}
    if not isinstance(use_norm, dict):
        raise ValueError(f"use_norm={use_norm!r}: a bool, a name or a dict with 'type' is needed.")  # noqa: TRY004
    if "type" not in use_norm:
        raise ValueError(f"use_norm={use_norm!r} has no 'type'; it is one of {', '.join(map(repr, NORMS))}.")
    arguments = dict(use_norm)
    kind = arguments.pop("type")
    if kind not in NORMS:
        raise ValueError(f"the norm {kind!r} is unknown; it is one of {', '.join(map(repr, NORMS))}.")
    if NORMS[kind] is None:
        raise RuntimeError("use_norm='inplace' needs the package inplace_abn, which is not installed.")
    return NORMS[kind](out_channels, **arguments)  # type: ignore[no-any-return]


class Conv2dReLU(nn.Sequential):
    """Convolution, norm, ReLU; the convolution has a bias only without a norm.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: of the convolution.
        padding: of the convolution.
        stride: of the convolution.
        use_norm: see `get_norm_layer`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        padding: int = 0,
        stride: int = 1,
        use_norm: Union[bool, str, Dict[str, Any]] = "batchnorm",
    ):
        norm = get_norm_layer(use_norm, out_channels)
        conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=isinstance(norm, nn.Identity))
        activates = InPlaceABN is not None and isinstance(norm, InPlaceABN)
        super().__init__(conv, norm, nn.Identity() if activates else nn.ReLU(inplace=True))


class SCSEModule(nn.Module):
    """Concurrent spatial and channel squeeze and excitation (https://arxiv.org/abs/1803.02579).

    Args:
        in_channels: channels of the input, at least `reduction`.
        reduction: the channels are divided by it inside.
    """

    def __init__(self, in_channels, reduction=16):
        super().__init__()
        inner = in_channels // reduction
        self.cSE = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(in_channels, inner, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(inner, in_channels, 1),
            nn.Sigmoid(),
        )
        self.sSE = nn.Sequential(nn.Conv2d(in_channels, 1, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """Gate (N, C, H, W) by channel and by pixel, and add."""
        return x * self.cSE(x) + x * self.sSE(x)  # type: ignore[no-any-return]


class ArgMax(nn.Module):
    """Index of the largest value along `dim`, of all values if None."""

    def __init__(self, dim=None):
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        """Return the index, int64."""
        return torch.argmax(x, dim=self.dim)


class Clamp(nn.Module):
    """Values cut to [min, max]."""

    def __init__(self, min=0, max=1):
        super().__init__()
        self.min, self.max = min, max

    def forward(self, x: Tensor) -> Tensor:
        """Return values cut to the range."""
        return torch.clamp(x, self.min, self.max)


_ACTIVATIONS = {
    None: nn.Identity,
    "identity": nn.Identity,
    "sigmoid": lambda **_: nn.Sigmoid(),
    "softmax2d": lambda **given: nn.Softmax(dim=1, **given),
    "softmax": lambda **given: nn.Softmax(**{"dim": 1} | given),
    "logsoftmax": lambda **given: nn.LogSoftmax(**{"dim": 1} | given),
    "tanh": lambda **_: nn.Tanh(),
    "argmax": ArgMax,
    "argmax2d": lambda **given: ArgMax(dim=1, **given),
    "clamp": Clamp,
}


class Activation(nn.Module):
    """An activation by name.

    Args:
        name: None or ``"identity"``, ``"sigmoid"``, ``"softmax2d"``, ``"softmax"``, ``"logsoftmax"``, ``"tanh"``,
            ``"argmax"``, ``"argmax2d"``, ``"clamp"``; a class or function that returns a module; a module; or a
            function of a tensor. Softmax without ``dim`` is over dimension 1.
        **params: for what the name stands for.

    Raises:
        ValueError: none of these.
    """

    def __init__(self, name, **params):
        super().__init__()
        if isinstance(name, nn.Module):
            self.activation = name
        elif name is None or (isinstance(name, str) and name in _ACTIVATIONS):
            self.activation = _ACTIVATIONS[name](**params)
        elif callable(name):
            self.activation = _made(name, params)
        else:
            known = ", ".join(repr(key) for key in _ACTIVATIONS)
            raise ValueError(f"activation={name!r} is unknown; it is one of {known}, or a callable.")

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation."""
        return self.activation(x)  # type: ignore[no-any-return]


class _Function(nn.Module):
    """A function of a tensor as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)  # type: ignore[no-any-return]


def _made(factory, params) -> nn.Module:
    """Call a factory of modules; take a function of a tensor as it is."""
    try:
        inspect.signature(factory).bind(**params)
    except TypeError:
        return _Function(factory)
    except ValueError:  # a built-in function without a signature, such as torch.sigmoid
        return _Function(factory)
    return factory(**params)  # type: ignore[no-any-return]


class Attention(nn.Module):
    """An attention by name.

    Args:
        name: None, or ``"scse"`` for `SCSEModule`.
        **params: of the module.

    Raises:
        ValueError: another name.
    """

    def __init__(self, name, **params):
        super().__init__()
        if name not in {None, "scse"}:
            raise ValueError(f"attention={name!r} is unknown; it is None or 'scse'.")
        self.attention = nn.Identity(**params) if name is None else SCSEModule(**params)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the attention."""
        return self.attention(x)  # type: ignore[no-any-return]
