"""Published weights: the files that segmentation_models_pytorch uses, at the revisions it pins.

The repositories hold no checksum of their own; the 40-digit revision fixes the content.
"""

from __future__ import annotations

from segcore import Weights

ORIGINS = {  # tag -> licence, who published the weights
    "imagenet": ("BSD-3-Clause", "torchvision, https://github.com/pytorch/vision"),
    "ssl": ("CC-BY-NC-4.0", "https://github.com/facebookresearch/semi-supervised-ImageNet1K-models"),
    "swsl": ("CC-BY-NC-4.0", "https://github.com/facebookresearch/semi-supervised-ImageNet1K-models"),
    "instagram": ("CC-BY-NC-4.0", "https://github.com/facebookresearch/WSL-Images"),
}

REVISIONS = {
    "resnet18": {
        "imagenet": "3f2325ff978283d47aa6a1d6878ca20565622683",
        "ssl": "d600d5116aac2e6e595f99f40612074c723c00b2",
        "swsl": "0e3a35d4d8e344088c14a96eee502a88ac70eae1",
    },
    "resnet34": {
        "imagenet": "7a57b34f723329ff020b3f8bc41771163c519d0c",
    },
    "resnet50": {
        "imagenet": "00cb74e366966d59cd9a35af57e618af9f88efe9",
        "ssl": "d07daf5b4377f3700c6ac61906b0aafbc4eca46b",
        "swsl": "b9520cce124f91c6fe7eee45721a2c7954f0d8c0",
    },
    "resnet101": {
        "imagenet": "cd7c15e8c51da86ae6a084515fdb962d0c94e7d1",
    },
    "resnet152": {
        "imagenet": "951dd835e9d086628e447b484584c8983f9e1dd0",
    },
    "resnext50_32x4d": {
        "imagenet": "329793c85d62fd340ae42ae39fb905a63df872e7",
        "ssl": "9b67cff77d060c7044493a58c24d1007c1eb06c3",
        "swsl": "52e6e49da61b8e26ca691e1aef2cbb952884057d",
    },
    "resnext101_32x4d": {
        "ssl": "b39796c8459084d13523b7016c3ef13a2e9e472b",
        "swsl": "3f8355b4892a31f001a832b49b2b01484d48516a",
    },
    "resnext101_32x8d": {
        "imagenet": "221af6198d03a4ee88992f78a1ee81b46a52d339",
        "instagram": "44cd927aa6e64673ffe9d31230bad44abc18b823",
        "ssl": "723a95ddeed335c9488c37c6cbef13d779ac8f97",
        "swsl": "58cf0bb65f91365470398080d9588b187d1777c4",
    },
    "resnext101_32x16d": {
        "instagram": "64e8e320eeae6501185b0627b2429a68e52d050c",
        "ssl": "1283fe03fbb6aa2599b2df24095255acb93c3d5c",
        "swsl": "30ba61bbd4d6af0d955c513dbb4f557b84eb094f",
    },
    "resnext101_32x32d": {
        "instagram": "c9405de121fdaa275a89de470fb19409e3eeaa86",
    },
    "resnext101_32x48d": {
        "instagram": "53e61a962b824ad7027409821f9ac3e3336dd024",
    },
}


def weights_of(name: str) -> dict[str, Weights]:
    """Return the weights records of one encoder by tag; empty where none are published at a fixed address."""
    return {
        tag: Weights(
            url=f"hf://smp-hub/{name}.{tag}/model.safetensors",
            revision=revision,
            license=ORIGINS[tag][0],
            source=ORIGINS[tag][1],
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        )
        for tag, revision in REVISIONS.get(name, {}).items()
    }
