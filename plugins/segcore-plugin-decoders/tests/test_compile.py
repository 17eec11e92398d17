"""One graph for all sizes: torch.compile and torch.export give the masks of eager mode."""

import pytest
import torch
from reference import NAMES, decoder_class

from segcore import SegmentationModel
from segcore.testing import TinyEncoder

QUICK = ("unet", "segformer")  # one of each kind; the others take some ten seconds each
SHAPED = [("dpt", "plain"), ("unet", "four"), ("pan", "dilated"), *((name, "five") for name in NAMES if name != "dpt")]
CASES = [
    pytest.param(name, shape, marks=() if name in QUICK and shape == "five" else pytest.mark.slow)
    for name, shape in SHAPED
]
SHAPES = {
    "five": {},
    "four": {"strides": (1, 4, 8, 16, 32)},
    "dilated": {"output_stride": 16},
    "plain": {"strides": (1, 16, 16, 16, 16), "prefix_tokens": 2},
}
SMALL = {"dpt": {"intermediate_channels": (8, 8, 8, 8), "fusion_channels": 8}}
SIZES = [(3, 101, 77), (1, 96, 128), (2, 70, 131)]


def sizes(name):
    """PAN halves the deepest map three times; a side that ends in one pixel is a constant for torch.export."""
    return [(n, h + 200, w + 200) if name == "pan" else (n, h, w) for n, h, w in SIZES]


def model(name, shape):
    torch.manual_seed(0)
    encoder = TinyEncoder(**SHAPES[shape])
    decoder = decoder_class(name)(encoder.feature_info, **SMALL.get(name, {}))
    return SegmentationModel(encoder, decoder, decoder.default_head(2)).eval()


@pytest.mark.filterwarnings("ignore")  # torch's own
@pytest.mark.parametrize(("name", "shape"), CASES)
def test_export_with_dynamic_sizes(name, shape):
    network, side = model(name, shape), torch.export.Dim.DYNAMIC
    (batch, height, width), *others = sizes(name)
    x = torch.randn(batch, 3, height, width)
    exported = torch.export.export(network, (x,), dynamic_shapes=({0: side, 2: side, 3: side},)).module()
    for batch, height, width in others:
        x = torch.randn(batch, 3, height, width)
        assert torch.equal(exported(x), network(x))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "shape"), CASES)
def test_compile_with_dynamic_sizes(name, shape):
    network, others = model(name, shape), sizes(name)
    torch._dynamo.reset()
    compiled = torch.compile(network, backend="eager", fullgraph=True, dynamic=True)
    with torch.no_grad():
        for batch, height, width in others:
            x = torch.randn(batch, 3, height, width)
            torch.testing.assert_close(compiled(x), network(x))
    torch._dynamo.reset()
