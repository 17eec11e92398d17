"""One graph for all sizes: torch.compile and torch.export give the masks of eager mode."""

import pytest
import torch
from reference import NAMES, decoder_class

from segcore import SegmentationModel
from segcore.testing import TinyEncoder

QUICK = ("unet", "segformer")  # one of each kind; the others take some ten seconds each
CASES = [
    pytest.param(name, shape, marks=() if name in QUICK and shape == "five" else pytest.mark.slow)
    for name in NAMES
    for shape in (("five", "four", "dilated") if name != "dpt" else ("plain",))
]
SHAPES = {
    "five": {},
    "four": {"strides": (1, 4, 8, 16, 32)},
    "dilated": {"output_stride": 16},
    "plain": {"strides": (1, 16, 16, 16, 16), "prefix_tokens": 2},
}
SMALL = {"dpt": {"intermediate_channels": (8, 8, 8, 8), "fusion_channels": 8}}
SIZES = [(1, 288, 320), (3, 301, 277), (2, 265, 399)]


def model(name, shape):
    torch.manual_seed(0)
    encoder = TinyEncoder(**SHAPES[shape])
    decoder = decoder_class(name)(encoder.feature_info, **SMALL.get(name, {}))
    return SegmentationModel(encoder, decoder, decoder.default_head(2)).eval()


@pytest.mark.filterwarnings("ignore")  # torch's own
@pytest.mark.parametrize(("name", "shape"), CASES)
def test_export_with_dynamic_sizes(name, shape):
    network, side = model(name, shape), torch.export.Dim.DYNAMIC
    exported = torch.export.export(
        network, (torch.randn(2, 3, 290, 310),), dynamic_shapes=({0: side, 2: side, 3: side},)
    ).module()
    for batch, height, width in SIZES:
        x = torch.randn(batch, 3, height, width)
        assert torch.equal(exported(x), network(x))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "shape"), CASES)
def test_compile_with_dynamic_sizes(name, shape):
    network = model(name, shape)
    torch._dynamo.reset()
    compiled = torch.compile(network, backend="eager", fullgraph=True, dynamic=True)
    with torch.no_grad():
        for batch, height, width in SIZES:
            x = torch.randn(batch, 3, height, width)
            torch.testing.assert_close(compiled(x), network(x))
    torch._dynamo.reset()
