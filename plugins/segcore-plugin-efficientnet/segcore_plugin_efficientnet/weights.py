"""Published weights: the files that segmentation_models_pytorch uses, at the revisions it pins.

The repositories hold no checksum of their own; the 40-digit revision fixes the content.
"""

from __future__ import annotations

from segcore import Weights

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

_GOOGLE = "Google, https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet, converted by "
_PORT = _GOOGLE + "https://github.com/lukemelas/EfficientNet-PyTorch"
_TIMM = _GOOGLE + "https://github.com/huggingface/pytorch-image-models"

REVISIONS = {
    "efficientnet-b0": {
        "imagenet": "1bbe7ecc1d5ea1d2058de1a2db063b8701aff314",
        "advprop": "29043c08140d9c6ee7de1468d55923f2b06bcec2",
    },
    "efficientnet-b1": {
        "imagenet": "5d637466a5215de300a8ccb13a39357df2df2bf4",
        "advprop": "2e518b8b0955bbab467f50525578dab6b6086afc",
    },
    "efficientnet-b2": {
        "imagenet": "a96d4f0295ffbae18ebba173bf7f3c0c8f21990e",
        "advprop": "be788c20dfb0bbe83b4c439f9cfe0dd937c0783e",
    },
    "efficientnet-b3": {
        "imagenet": "074c54a6c473e0d294690d49cedb6cf463e7127d",
        "advprop": "9ccc166d87bd9c08d6bed4477638c7f4bb3eec78",
    },
    "efficientnet-b4": {
        "imagenet": "05cd5dde5dab658f00c463f9b9aa0ced76784f40",
        "advprop": "f04caa809ea4eb08ee9e7fd555f5514ebe2a9ef5",
    },
    "efficientnet-b5": {
        "imagenet": "69f4d28460a4e421b7860bc26ee7d832e03e01ca",
        "advprop": "dabe78fc8ab7ce93ddc2bb156b01db227caede88",
    },
    "efficientnet-b6": {
        "imagenet": "8570752016f7c62ae149cffa058550fe44e21c8b",
        "advprop": "c2dbb4d1359151165ec7b96cfe54a9cac2142a31",
    },
    "efficientnet-b7": {
        "imagenet": "5a5dbe687d612ebc3dca248274fd1191111deda6",
        "advprop": "ce33edb4e80c0cde268f098ae2299e23f615577d",
    },
    "timm-efficientnet-b0": {
        "imagenet": "8419e9cc19da0b68dcd7bb12f19b7c92407ad7c4",
        "advprop": "a5870af2d24ce79e0cc7fae2bbd8e0a21fcfa6d8",
        "noisy-student": "bea8b0ff726a50e48774d2d360c5fb1ac4815836",
    },
    "timm-efficientnet-b1": {
        "imagenet": "63bdd65ef6596ef24f1cadc7dd4f46b624442349",
        "advprop": "79b3d102080ef679b16c2748e608a871112233d0",
        "noisy-student": "36856124a699f6032574ceeefab02040daa90a9a",
    },
    "timm-efficientnet-b2": {
        "imagenet": "e693adb39d3cb3847e71e3700a0c2aa58072cff1",
        "advprop": "b58479bf78007cfbb365091d64eeee369bddfa21",
        "noisy-student": "67c558827c6d3e0975ff9b4bce8557bc2ca80931",
    },
    "timm-efficientnet-b3": {
        "imagenet": "1666b835b5151d6bb2067c7cd67e67ada6c39edf",
        "advprop": "70474cdb9f1ff4fcbd7434e66560ead1ab8e506b",
        "noisy-student": "2367bc9f61e79ee97684169a71a87db280bcf4db",
    },
    "timm-efficientnet-b4": {
        "imagenet": "07868c28ab308f4de4cf1e7ec54b33b8b002ccdb",
        "advprop": "8ea1772ee9a2a0d18c1b56dce0dfac8dd33d537d",
        "noisy-student": "faeb77b6e8292a700380c840d39442d7ce4d6443",
    },
    "timm-efficientnet-b5": {
        "imagenet": "004153b4ddd93d30afd9bbf34329d7f57396d413",
        "advprop": "1d1c5f05aab5ed9a1d5052847ddd4024c06a464d",
        "noisy-student": "9bc3a1e5490de92b1af061d5c2c474ab3129e38c",
    },
    "timm-efficientnet-b6": {
        "imagenet": "dbbf28a5c33f021486db4070de693caad6b56c3d",
        "advprop": "3b5d3412047f7711c56ffde997911cfefe79f835",
        "noisy-student": "9b899ea9e8e0ce2ccada0f34a8cb8b5028e9bb36",
    },
    "timm-efficientnet-b7": {
        "imagenet": "8ef7ffccf54dad9baceb21d05b7ef86b6b70f4cc",
        "advprop": "fcbc576ffb939c12d5cd8dad523fdae6eb0177ca",
        "noisy-student": "6b1dd73e61bf934d485d7bd4381dc3e2ab374664",
    },
    "timm-efficientnet-b8": {
        "imagenet": "b5e9dde35605a3a6d17ea2a727382625f9066a37",
        "advprop": "e43f381de72e7467383c2c80bacbb7fcb9572866",
    },
    "timm-efficientnet-l2": {
        "noisy-student": "cdc711e76d1becdd9197169f1a8bb1b2094e980c",
        "noisy-student-475": "35f5ba667a64bf4f3f0689daf84fc6d0f8e1311b",
    },
    "timm-tf_efficientnet_lite0": {
        "imagenet": "f5729249af07e5d923fb8b16922256ce2865d108",
    },
    "timm-tf_efficientnet_lite1": {
        "imagenet": "7b5e3f8dbb0c13b74101773584bba7523721be72",
    },
    "timm-tf_efficientnet_lite2": {
        "imagenet": "cc5f6cd4c7409ebacc13292f09d369ae88547f6a",
    },
    "timm-tf_efficientnet_lite3": {
        "imagenet": "ab29c8402991591d66f813bbb1f061565d9b0cd0",
    },
    "timm-tf_efficientnet_lite4": {
        "imagenet": "91a822e0f03c255b34dfb7846d3858397e50ba39",
    },
}


def weights_of(name: str) -> dict[str, Weights]:
    """Return the weights records of one encoder by tag."""
    records = {}
    for tag, revision in REVISIONS[name].items():
        mean, std = _HALF if tag == "advprop" or "lite" in name else _IMAGENET
        records[tag] = Weights(
            url=f"hf://smp-hub/{name}.{tag}/model.safetensors",
            revision=revision,
            license="Apache-2.0",
            source=_TIMM if name.startswith("timm-") else _PORT,
            mean=mean,
            std=std,
        )
    return records
