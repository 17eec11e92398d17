"""Encoders by name: the table `encoders`, and functions that read it."""

# ruff: noqa: ANN001, ANN202, ANN003, ANN201
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

import copy
import functools
import json
import warnings
from pathlib import Path

from safetensors.torch import load_file

import segcore
from segcore_smp.encoders._advice import advice
from segcore_smp.encoders._base import EncoderMixin
from segcore_smp.encoders._network import NetworkEncoder
from segcore_smp.encoders._preprocessing import preprocess_input
from segcore_smp.encoders.densenet import densenet_encoders
from segcore_smp.encoders.dpn import dpn_encoders
from segcore_smp.encoders.efficientnet import efficient_net_encoders
from segcore_smp.encoders.inceptionresnetv2 import inceptionresnetv2_encoders
from segcore_smp.encoders.inceptionv4 import inceptionv4_encoders
from segcore_smp.encoders.mix_transformer import mix_transformer_encoders
from segcore_smp.encoders.mobilenet import mobilenet_encoders
from segcore_smp.encoders.mobileone import mobileone_encoders
from segcore_smp.encoders.resnet import resnet_encoders
from segcore_smp.encoders.senet import senet_encoders
from segcore_smp.encoders.timm_efficientnet import timm_efficientnet_encoders
from segcore_smp.encoders.timm_sknet import timm_sknet_encoders
from segcore_smp.encoders.timm_universal import TimmUniversalEncoder, published
from segcore_smp.encoders.timm_vit import TimmViTEncoder
from segcore_smp.encoders.vgg import vgg_encoders
from segcore_smp.encoders.xception import xception_encoders
from segcore_smp.hub import hub_file

__all__ = [
    "EncoderMixin",
    "TimmUniversalEncoder",
    "TimmViTEncoder",
    "encoders",
    "get_encoder",
    "get_encoder_names",
    "get_preprocessing_fn",
    "get_preprocessing_params",
]

encoders = (
    resnet_encoders
    | dpn_encoders
    | vgg_encoders
    | senet_encoders
    | densenet_encoders
    | inceptionresnetv2_encoders
    | inceptionv4_encoders
    | efficient_net_encoders
    | mobilenet_encoders
    | xception_encoders
    | timm_efficientnet_encoders
    | timm_sknet_encoders
    | mix_transformer_encoders
    | mobileone_encoders
)
"""Rows by name, to which programs add their own: ``encoder``, a class; ``params``, its arguments;
``pretrained_settings``, weights by tag."""

_UNIVERSAL = ("timm-regnet", "timm-res2", "timm-resnest", "timm-mobilenetv3", "timm-gernet")


def is_equivalent_to_timm_universal(name):
    """Return whether a ``timm-`` name stands for a network that is built as ``tu-``."""
    return name.startswith(_UNIVERSAL)


def get_encoder(name, in_channels=3, depth=5, weights=None, output_stride=32, **kwargs):
    """Return an encoder.

    Args:
        name: one of `get_encoder_names`, a name that the program registered, or ``tu-`` and a name of timm's.
        in_channels: channels of the image.
        depth: number of downsampling stages in use, 1 to 5.
        weights: a tag, or None for random weights; for ``tu-`` names True, or None.
        output_stride: 32, 16 or 8.
        **kwargs: for ``tu-`` encoders; None is left out.

    Raises:
        KeyError: an unknown name or tag.
        UnknownOptionError: an argument that the encoder does not take.
        WeightsError: published weights are not to be had; the message says what to do.
    """
    kwargs = {key: value for key, value in kwargs.items() if value is not None}
    if name.startswith("timm-"):
        warnings.warn(f"{name!r}: names with timm- are deprecated; write tu- names.", DeprecationWarning, stacklevel=2)
    if is_equivalent_to_timm_universal(name):
        name = name.replace("timm-", "tu-tf_" if "mobilenetv3" in name else "tu-", 1)
    if name.startswith("tu-"):
        return _universal(name.removeprefix("tu-"), in_channels, depth, weights, output_stride, kwargs)
    if name not in encoders:
        raise KeyError(f"Wrong encoder name `{name}`, supported encoders: {list(encoders)}")
    if kwargs:
        raise segcore.UnknownOptionError(
            f"{', '.join(map(repr, sorted(kwargs)))}: no argument of the model, and {name!r} takes none of its own. "
            f"Look at the spelling."
        )
    row = encoders[name]
    encoder = row["encoder"](**copy.deepcopy(row["params"]), depth=depth, output_stride=output_stride)
    if weights is not None:
        if weights not in row["pretrained_settings"]:
            raise KeyError(
                f"Wrong pretrained weights `{weights}` for encoder `{name}`. "
                f"Available options are: {list(row['pretrained_settings'])}"
            )
        _load(encoder, name, weights)
    encoder.set_in_channels(in_channels, pretrained=weights is not None)
    if output_stride != 32:
        encoder.make_dilated(output_stride)
    return encoder


def _universal(name, in_channels, depth, weights, output_stride, options):
    """Return one of timm's networks."""
    if weights is not None and not isinstance(weights, bool):
        warnings.warn(
            f"encoder_weights={weights!r}: weights of tu- encoders are True or None; the tag is part of the name, "
            f"'tu-{name.partition('.')[0]}.<tag>'.",
            UserWarning,
            stacklevel=3,
        )
    with advice(f"tu-{name}", weights):
        return TimmUniversalEncoder(
            name=name,
            in_channels=in_channels,
            depth=depth,
            output_stride=output_stride,
            pretrained=weights is not None and weights is not False,
            **options,
        )


def _load(encoder, name, tag):
    """Load published weights."""
    with advice(name, tag):
        if isinstance(encoder, NetworkEncoder):
            published = segcore.create_encoder(encoder._network, weights=tag).state_dict()
            encoder._tree.load_state_dict(dict(encoder._tree.state_dict()) | published)
            return
        encoder.load_state_dict(load_file(_own_file(name, tag, "model.safetensors")))


def _own_file(name, tag, file):
    """Return a file of weights that the program registered."""
    settings = encoders[name]["pretrained_settings"][tag]
    return hub_file(settings["repo_id"], file, {"revision": settings.get("revision")})


def get_encoder_names():
    """Return the names of the table."""
    return list(encoders)


def get_preprocessing_params(encoder_name, pretrained="imagenet"):
    """Return what images must look like for published weights; needs no network.

    Args:
        encoder_name: as for `get_encoder`.
        pretrained: the tag; of ``tu-`` encoders the name says it.

    Returns:
        ``{"input_space": "RGB", "input_range": [0, 1], "mean": [...], "std": [...]}``.

    Raises:
        KeyError: an unknown name.
        ValueError: an unknown tag.
    """
    if encoder_name.startswith("tu-"):
        facts = published(encoder_name.removeprefix("tu-"))
        if facts is None:
            raise ValueError(f"{encoder_name!r} has no published weights, so nothing is known of its images.")
    else:
        settings = encoders[encoder_name]["pretrained_settings"]
        if pretrained not in settings:
            raise ValueError(f"Available pretrained options {list(settings)}")
        spec = segcore.encoders.get(encoder_name)
        record = None if spec is None else spec.weights.get(pretrained)
        if record is not None:
            facts = {key: getattr(record, key) for key in ("input_space", "input_range", "mean", "std")}
        elif "mean" in settings[pretrained]:
            facts = settings[pretrained]
        else:
            facts = json.loads(Path(_own_file(encoder_name, pretrained, "config.json")).read_text("utf-8"))
    return {
        "input_space": facts.get("input_space", "RGB"),
        "input_range": [
            int(value) if float(value).is_integer() else value for value in facts.get("input_range", [0, 1])
        ],
        "mean": list(facts["mean"]),
        "std": list(facts["std"]),
    }


def get_preprocessing_fn(encoder_name, pretrained="imagenet"):
    """Return a function that normalises an image (H, W, 3) as published weights ask; see `get_preprocessing_params`."""
    return functools.partial(preprocess_input, **get_preprocessing_params(encoder_name, pretrained=pretrained))
