"""Prints the table of the README: ``python tests/decoder_table.py``, to be pasted there."""

import sys
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

SIZE, CLASSES = 512, 19
RESNET34 = (3, 64, 64, 128, 256, 512)
NEEDS = {
    "unet": "any below the image",
    "unetplusplus": "any below the image",
    "manet": "any below the image",
    "linknet": "any below the image",
    "fpn": "two of 4 and more",
    "pspnet": "the deepest; asks for 8",
    "pan": "two of 4 and more; asks for 16",
    "deeplabv3": "the deepest; asks for 8",
    "deeplabv3plus": "4 and the deepest; asks for 16",
    "upernet": "two of 4 and more",
    "segformer": "two of 4 and more",
    "dpt": "a plain ViT's, or 4 and more",
}
HEADER = (
    "| decoder | parameters | GMACs | output stride | strides it reads | largest relative difference to SMP 0.6.0 |",
    "|---|---|---|---|---|---|",
)


def facts(name, title):
    """Return parameters and GMACs of decoder and head with a resnet34 (DPT: ViT-B/16), and the output stride."""
    from reference import decoder_class

    from segcore import FeatureInfo

    wish = decoder_class(name).encoder_defaults({}).get("output_stride", 32)
    info = FeatureInfo(RESNET34, tuple(min(stride, wish) for stride in (1, 2, 4, 8, 16, 32)))
    if name == "dpt":
        info = FeatureInfo((3, 768, 768, 768, 768), (1, 16, 16, 16, 16), prefix_tokens=1)
    with torch.device("meta"):
        decoder = decoder_class(name)(info).eval()
        head = decoder.default_head(CLASSES).eval()
        features = [torch.empty(1, c, SIZE // s, SIZE // s) for c, s in zip(info.channels, info.strides, strict=True)]
        prefix = [torch.empty(1, info.prefix_tokens, c) for c in info.channels[1:]]
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            head(decoder(features, prefix) if decoder.reads_prefix_tokens else decoder(features), (SIZE, SIZE))
    count = sum(value.numel() for part in (decoder, head) for value in part.parameters())
    return (
        f"| {title} `{name}` | {count / 1e6:.2f} M | {counter.get_total_flops() / 2e9:.1f} | {decoder.output_stride} |"
    )


def compare(name):
    """Return the difference in legacy mode, measured now."""
    from reference import difference

    size = 192 if name == "pan" else 64
    return difference(name, "tu-vit_tiny_patch16_224" if name == "dpt" else "resnet34", size=size)


def main():
    from segcore_plugin_decoders import segcore_specs

    print("\n".join(HEADER))
    for spec in segcore_specs():
        difference = compare(spec.name)
        shown = "0" if difference == 0 else f"{difference:.0e}"
        print(f"{facts(spec.name, spec.title)} {NEEDS[spec.name]} | {shown} |")


if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[3] / "tests")]
    from segcore import guard_torchvision

    guard_torchvision()
    main()
