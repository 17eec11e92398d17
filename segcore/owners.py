"""Published owners of bare names: who keeps a name whatever else is installed, and what to install for it.

Sorted by namespace. A pattern ends in ``*``.
"""

from __future__ import annotations

_DECODERS = "unet unetplusplus manet linknet fpn pspnet pan deeplabv3 deeplabv3plus upernet segformer dpt"

_ENCODERS = {
    "efficientnet": "efficientnet-b* timm-efficientnet-* timm-tf_efficientnet_lite* efficientnet_lite*",
    "mit": "mit_b*",
    "resnet": "resnet18 resnet34 resnet50 resnet101 resnet152 resnext50_32x4d resnext101_32x4d resnext101_32x8d "
    "resnext101_32x16d resnext101_32x32d resnext101_32x48d wide_resnet50_2 wide_resnet101_2",
    "timm": "densenet121 densenet161 densenet169 densenet201 dpn68 dpn68b dpn92 dpn98 dpn107 dpn131 inceptionresnetv2 "
    "inceptionv4 mobilenet_v2 mobileone_s* se_resnet50 se_resnet101 se_resnet152 se_resnext50_32x4d "
    "se_resnext101_32x4d senet154 timm-gernet_* timm-mobilenetv3_* timm-regnet* timm-res2ne* timm-resnest* "
    "timm-skresn* tu-* vgg11 vgg11_bn vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn xception",
}

_LOSSES = "bce boundary ce cldice compound dice focal focal-tversky focal_tversky jaccard lovasz mcc ohem tversky"

OWNERS: dict[str, dict[str, str]] = {
    "encoder": {name: namespace for namespace, names in _ENCODERS.items() for name in names.split()},
    "decoder": dict.fromkeys(_DECODERS.split(), "decoders"),
    "loss": dict.fromkeys(_LOSSES.split(), "losses"),
}

OFFICIAL = frozenset(owner for table in OWNERS.values() for owner in table.values())
"""The namespaces of the table; each belongs to one distribution, whatever entry points others write."""

_PREFIXES = {
    kind: {name[:-1]: owner for name, owner in table.items() if name.endswith("*")} for kind, table in OWNERS.items()
}


def owner_of(kind: str, name: str) -> str | None:
    """Return the namespace that owns a bare name, or None if nobody does."""
    owner = OWNERS[kind].get(name)
    if owner is None:
        owner = next((owner for prefix, owner in _PREFIXES[kind].items() if name.startswith(prefix)), None)
    return owner


def distribution_of(namespace: str) -> str:
    """Return the distribution that is expected to hold a namespace."""
    return f"segcore-plugin-{namespace}"
