"""What makes a result another one, as a checksum."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import torch

from segcore import SegmentationModel
from segcore_plugin_predict.extensions import BackendModel


def fingerprint(model: SegmentationModel | BackendModel, options: Mapping[str, object]) -> str:
    """Return a checksum of a model's config and weights, or digest, and of options, 32 hexadecimal digits.

    Args:
        model: on any device.
        options: JSON-able; those that change the result.
    """
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps([model.config, options], sort_keys=True, default=str).encode())
    if not isinstance(model, SegmentationModel):
        digest.update(model.digest.encode())
        return digest.hexdigest()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
