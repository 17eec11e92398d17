"""Keys and shapes of the classic encoders against segmentation_models_pytorch, whose features are compared elsewhere."""

import pytest
import torch
from segcore_plugin_timm.classic import ClassicEncoder
from segcore_plugin_timm.families import classics
from segmentation_models_pytorch.encoders import encoders
from segmentation_models_pytorch.encoders.timm_sknet import SkNetEncoder


def reference(name):
    """SMP's encoder; its SKNet gets timm's arguments, which are ours (its own have other shapes)."""
    entry = encoders[name]
    params = dict(entry["params"], depth=5, output_stride=32)
    if name.startswith("timm-sk"):
        params["block_args"] = {"sk_kwargs": {"rd_ratio": 1 / 8, "rd_divisor": 16, "split_input": True}}
        if "next" in name:
            params["block_args"] = {"sk_kwargs": {"rd_ratio": 1 / 16, "rd_divisor": 32, "split_input": False}}
        return SkNetEncoder(**params)
    return entry["encoder"](**params)


@pytest.mark.parametrize("name", sorted(classics()))
def test_keys_and_shapes_are_those_of_smp(name):
    with torch.device("meta"):
        theirs, ours = reference(name).state_dict(), ClassicEncoder(name)
    own = ours.state_dict()
    found = ours.convert_state_dict(theirs)
    assert {key: value.shape for key, value in found.items()} == {key: value.shape for key, value in own.items()}
    assert len(theirs) == len(own)
    assert ours.out_channels == tuple(encoders[name]["params"]["out_channels"])
