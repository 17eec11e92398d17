"""Compares a decoder and its head with segmentation_models_pytorch, on the features of the latter's encoder."""

import math

import segmentation_models_pytorch as smp
import torch
from segcore_plugin_decoders import segcore_specs

from segcore import FeatureInfo

SPECS = {spec.name: spec for spec in segcore_specs()}
NAMES = sorted(SPECS)


def decoder_class(name):
    module, attribute = SPECS[name].factory.split(":")
    return getattr(__import__(module, fromlist=[attribute]), attribute)


def randomise(module):
    """Give norms statistics and affine parameters that a fresh network does not have."""
    for key, value in [*module.named_parameters(), *module.named_buffers()]:
        if key.endswith("running_var"):
            value.data.uniform_(0.5, 1.5)
        elif key.endswith("running_mean"):
            value.data.normal_(0, 0.1)
        elif value.ndim == 1 and value.is_floating_point():
            value.data.add_(torch.randn_like(value) * 0.1)


def smp_model(name, encoder="resnet18", **options):
    torch.manual_seed(0)
    model = getattr(smp, SPECS[name].title)(encoder, encoder_weights=None, classes=3, **options)
    randomise(model)
    return model.eval()


def present(features):
    """Return the maps that exist, without placeholders of 0 channels."""
    return [x for x in features if x.shape[1] > 0]


def info_of(features, prefix_tokens=0):
    size = features[0].shape[-1]
    strides = tuple(2 ** round(math.log2(size / x.shape[-1])) for x in features)
    return FeatureInfo(tuple(x.shape[1] for x in features), strides, prefix_tokens)


def build(name, info, state=None, classes=3, **options):
    """Return decoder and head in evaluation mode, with weights of an SMP model if given."""
    decoder = decoder_class(name)(info, **options)
    head = decoder.default_head(classes)
    if state is not None:
        for prefix, part in (("decoder.", decoder), ("segmentation_head.", head)):
            part.load_state_dict(
                {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
            )
    return decoder.eval(), head.eval()


@torch.inference_mode()
def difference(name, encoder="resnet18", size=64, ours=None, dtype=torch.float32, **theirs):
    """Return the largest difference of the masks, relative to the largest value of the reference.

    Args:
        ours: options of our decoder; `theirs` are SMP's.
    """
    if name == "dpt" and encoder.startswith("tu-vit") and "relpos" not in encoder:
        theirs["dynamic_img_size"] = True
    elif name == "dpt" and "relpos" in encoder:
        size = 224
    reference = smp_model(name, encoder, **theirs).to(dtype)
    x = torch.randn(2, 3, size, size, dtype=dtype)
    encoded = reference.encoder(x)
    maps, prefix = encoded if name == "dpt" else (encoded, None)
    maps = [feature.contiguous() for feature in maps]  # one memory format, so one algorithm
    if name == "dpt":
        wanted = reference.segmentation_head(reference.decoder(list(maps), prefix))
        features, tokens = [x, *maps], 0 if prefix[0] is None else prefix[0].shape[1]
    else:
        wanted = reference.segmentation_head(reference.decoder(list(maps)))
        features, tokens = present(maps), 0
    decoder, head = build(name, info_of(features, tokens), reference.state_dict(), legacy=True, **(ours or {}))
    decoder, head = decoder.to(dtype), head.to(dtype)
    decoded = decoder(features, prefix) if decoder.reads_prefix_tokens else decoder(features)
    assert decoded.shape[1] == decoder.out_channels
    assert decoded.shape[-1] * decoder.output_stride == size
    mask = head(decoded, x.shape[-2:])
    assert mask.shape == wanted.shape
    return ((mask - wanted).abs().max() / wanted.abs().max()).item()
