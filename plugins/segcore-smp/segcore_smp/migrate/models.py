"""Models of SMP as calls of `segcore.create_model` that compute the same."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

import libcst as cst

import segcore
from segcore_smp.migrate.arguments import Arguments, Context, LeftError, keyword, written

TITLES = (
    "DPT", "DeepLabV3", "DeepLabV3Plus", "FPN", "Linknet", "MAnet", "PAN", "PSPNet", "Segformer", "UPerNet", "Unet",
    "UnetPlusPlus",
)  # fmt: skip
_RENAMED = {
    "encoder_name": "encoder",
    "decoder_use_norm": "decoder_norm",
    "decoder_attention_type": "decoder_attention",
    "psp_out_channels": "decoder_psp_channels",
    "psp_dropout": "decoder_dropout",
    "encoder_output_indices": "encoder_out_indices",
}
_BY_DEPTH = ("unet", "unetplusplus", "manet")  # their channels are SMP's at SMP's depth
_ACTIVATIONS = (None, "identity", "sigmoid", "tanh")


def model(call: cst.Call, title: str, context: Context) -> cst.Call:
    """Return the call of `segcore.create_model` for one of SMP's classes.

    Raises:
        LeftError: it is not certain.
    """
    import segcore_smp

    return _model(call, title, Arguments.of(call, getattr(segcore_smp, title), context))


def created(call: cst.Call, context: Context) -> cst.Call:
    """Return the call of `segcore.create_model` for one of SMP's `create_model`.

    Raises:
        LeftError: it is not certain.
    """
    import segcore_smp

    named = [arg for arg in call.args if arg.keyword and arg.keyword.value == "arch"]
    arch = named[0] if named else call.args[0] if call.args else None
    if arch is None or arch.star or (not named and arch.keyword):
        raise LeftError("the architecture is not given in the call")
    title = {title.lower(): title for title in TITLES}.get(
        str(Arguments({"arch": arch}, {}, context).value("arch")).lower()
    )
    if title is None:
        raise LeftError("there is no such architecture")
    rest = [arg for arg in call.args if arg is not arch]
    if not named:  # the positions are those of create_model, which one of the classes has in another order
        names = list(inspect.signature(segcore_smp.create_model).parameters)[1:]
        rest = [
            arg if arg.keyword or arg.star else arg.with_changes(keyword=cst.Name(name))
            for arg, name in zip(rest, names + [""] * len(rest), strict=False)
        ]
    inner = call.with_changes(args=rest)
    return _model(call, title, Arguments.of(inner, getattr(segcore_smp, title), context), arch)


def _model(call: cst.Call, title: str, arguments: Arguments, arch: cst.Arg | None = None) -> cst.Call:
    decoder = title.lower()
    encoder = arguments.value("encoder_name")
    spec = segcore.encoders.get(encoder) if isinstance(encoder, str) else None
    if spec is None:
        raise LeftError(f"segcore has no encoder {encoder!r} here")
    _check(arguments, spec)
    named = cst.SimpleString(f'"{decoder}"')
    args = [arch.with_changes(keyword=None, equal=cst.MaybeSentinel.DEFAULT, value=named) if arch else cst.Arg(named)]
    options = _options(decoder)
    for name, arg in arguments.given.items():
        new = _RENAMED.get(name, name)
        if name == "encoder_name" and spec.name != encoder:
            args.append(keyword(new, f'"{spec.name}"', arg))
        elif name == "decoder_use_norm":
            args.append(keyword(new, f'"{_norm(arguments.value(name))}"', arg))
        else:
            args.append(keyword(new, arg.value, arg))
    depth_given = "encoder_depth" in arguments.given and arguments.value("encoder_depth") != 5
    for name, value in arguments.defaults.items():
        new = _RENAMED.get(name, name)
        same = options.get(new, options) == value or (name == "encoder_depth" and value == 5)
        if name == "decoder_channels" and decoder in _BY_DEPTH and not depth_given:
            same = True
        if name == "upsampling" or (same and name != "encoder_name"):
            continue
        args.insert(
            1 if name == "encoder_name" else len(args),
            keyword(new, f'"{value}"' if isinstance(value, str) else repr(value)),
        )
    stride = arguments.value("encoder_output_stride") if "encoder_output_stride" in _names(arguments) else 32
    if stride != 32 and "dilation_rule" in _parameters(spec):
        args.append(keyword("encoder_dilation_rule", '"smp"'))
    if encoder.startswith("vgg") and decoder in {"unet", "unetplusplus"}:
        args.append(keyword("decoder_center", "True"))
    return written(call, "segcore.create_model", [*args, keyword("decoder_legacy", "True")])


def _check(arguments: Arguments, spec: segcore.EncoderSpec) -> None:
    tag = arguments.value("encoder_weights")
    if tag is not None and tag not in spec.weights:
        raise LeftError(f"segcore has no weights {tag!r} of {spec.name!r}; see segcore weights list {spec.name}")
    if "activation" in arguments.given and arguments.value("activation") not in _ACTIVATIONS:
        raise LeftError("activation: SMP means something else by it; give it to segcore.create_model yourself")
    aux = arguments.value("aux_params") if "aux_params" in arguments.given else None
    if aux is not None and not (isinstance(aux, dict) and aux.get("activation") in _ACTIVATIONS):
        raise LeftError("aux_params: SMP means something else by the activation")
    if "decoder_use_norm" in arguments.given:
        _norm(arguments.value("decoder_use_norm"))
    if "upsampling" in arguments.given:
        raise LeftError("upsampling: in segcore the mask has the image's size; leave it out if that is what you want")


def _norm(value: object) -> str:
    name = {True: "batchnorm", False: "identity"}.get(value) if isinstance(value, bool) else value
    if name not in {"batchnorm", "identity"}:
        raise LeftError(f"decoder_use_norm={value!r} has no counterpart that is certain")
    return str(name)


def _names(arguments: Arguments) -> set[str]:
    return {*arguments.given, *arguments.defaults}


def _parameters(spec: segcore.EncoderSpec | segcore.DecoderSpec) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of the class of a record."""
    module, _, name = str(spec.factory).partition(":")
    return inspect.signature(getattr(importlib.import_module(module), name)).parameters


def _options(decoder: str) -> dict[str, Any]:
    """Return the defaults of `segcore.create_model` and of a decoder, as it calls them."""
    own = _parameters(segcore.decoders.resolve(decoder))
    defaults: dict[str, Any] = {f"decoder_{key}": value.default for key, value in own.items()}
    return (
        defaults
        | {"encoder_weights": None, "in_channels": 3, "classes": 1, "activation": None, "aux_params": None}
        | ({"encoder_out_indices": None})
    )
