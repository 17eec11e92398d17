"""Exported files give what the model gives: every decoder, every family of encoders, every format."""

import itertools

import numpy as np
import onnxruntime
import openvino
import pytest
import torch
from segcore_plugin_export import export

import segcore
from segcore.testing import TinyEncoder

DECODERS = (
    "unet", "unetplusplus", "manet", "linknet", "fpn", "pspnet", "pan", "deeplabv3", "deeplabv3plus", "upernet",
    "segformer", "dpt",
)  # fmt: skip
FAMILIES = {
    "resnet": "resnet18",
    "efficientnet": "efficientnet-b0",
    "mit": "mit_b0",
    "timm-cnn": "timm/convnext_atto",
    "timm-vit": "timm/vit_tiny_patch16_224",
}
SUFFIXES = {"onnx": ".onnx", "torch-export": ".pt2", "openvino": ".xml"}
SHALLOW = {"encoder_depth": 3}
SMALL_DPT = {"decoder_intermediate_channels": (8, 8), "decoder_fusion_channels": 8}
ONE_OF_EACH = {  # every decoder and every family once, small
    "unet": ("resnet18", SHALLOW),
    "fpn": ("efficientnet-b0", SHALLOW),
    "segformer": ("mit_b0", SHALLOW),
    "linknet": ("timm/convnext_atto", SHALLOW),
    "dpt": ("timm/vit_tiny_patch16_224", {"encoder_out_indices": (0, 1)} | SMALL_DPT),
    "unetplusplus": ({"depth": 3}, {}),
    "manet": ({"depth": 3}, {}),
    "pspnet": ({"output_stride": 8}, {"decoder_psp_channels": 16}),
    "pan": ({"output_stride": 16}, {"decoder_channels": 8}),
    "deeplabv3": ({"output_stride": 8}, {"decoder_channels": 16}),
    "deeplabv3plus": ({"output_stride": 16}, {"decoder_channels": 16}),
    "upernet": ({"depth": 4}, {"decoder_channels": 16}),
}
OTHER_SIZES = [(1, 101, 77), (2, 160, 96), (4, 64, 131)]  # export compares others


def build(decoder, encoder, options):
    torch.manual_seed(0)
    encoder = TinyEncoder(**encoder) if isinstance(encoder, dict) else encoder
    return segcore.create_model(decoder, encoder, classes=3, **options).eval()


def runner(path):
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return lambda x: torch.from_numpy(session.run(None, {"image": x.numpy()})[0])
    if path.suffix == ".xml":
        compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return lambda x: torch.from_numpy(np.array(compiled([x.numpy()])["mask"]))
    return torch.export.load(path).module()


def agrees(model, path, sizes=OTHER_SIZES):
    run = runner(path)
    for batch, height, width in sizes:
        x = torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(height))
        with torch.no_grad():
            wanted, got = model(x), run(x)
        assert got.shape == wanted.shape
        assert (got - wanted).abs().max() <= 1e-4 * wanted.abs().max(), (batch, height, width)


@pytest.mark.parametrize("decoder", DECODERS)
def test_onnx_of_every_decoder(decoder, tmp_path):
    model = build(decoder, *ONE_OF_EACH[decoder])
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.train()
    done = export(model, tmp_path / "model.onnx")
    assert all(module.training for module in model.modules())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert 0 < done.deviation < 1e-4
    assert done.facts.size_multiple == 1
    agrees(model.eval(), tmp_path / "model.onnx")


@pytest.mark.parametrize(("decoder", "file"), [("dpt", "model.xml"), ("pan", "model.pt2")])
def test_other_formats_where_they_are_hard(decoder, file, tmp_path):
    """OpenVINO lacks antialiased resizing; torch.export treats maps of one pixel apart."""
    model = build(decoder, *ONE_OF_EACH[decoder])
    done = export(model, tmp_path / file)
    assert done.facts.size_multiple == 1
    agrees(model, tmp_path / file, [(1, 229, 177), (3, 160, 192)])


PRODUCT = [*itertools.product(SUFFIXES, DECODERS, FAMILIES)]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "decoder", "family"), PRODUCT)
def test_every_decoder_with_every_family(kind, decoder, family, tmp_path):
    neck = {"encoder_neck": "pyramid"} if family == "timm-vit" and decoder != "dpt" else {}
    model = build(decoder, FAMILIES[family], neck)
    done = export(model, tmp_path / f"model{SUFFIXES[kind]}")
    assert done.deviation < 1e-4
    multiple = done.facts.size_multiple
    assert multiple == 1 or kind == "torch-export"
    agrees(model, done.path, [(1, 7 * multiple, 8 * multiple) if multiple > 1 else (1, 229, 177)])
