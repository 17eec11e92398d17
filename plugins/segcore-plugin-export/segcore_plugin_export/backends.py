"""``segcore predict FILE --backend onnxruntime`` and ``--backend openvino``: exported files as what predicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcore import CheckpointError, InputError
from segcore_plugin_export import onnx_format, openvino_format
from segcore_plugin_export.check import Run
from segcore_plugin_export.metadata import Facts


class ExportedModel(nn.Module):
    """An exported file in place of a `segcore.SegmentationModel`: called with images, it returns scores.

    Args:
        run: runs the program.
        facts: the file's metadata.
        digest: the file's checksum.

    Attributes:
        config: what a checkpoint's config says, as far as the file knows it.
        tile_step: tiles start at multiples of it.
        digest: tells these weights from others.
        facts: the file's metadata.
    """

    def __init__(self, run: Run, facts: Facts, digest: str) -> None:
        super().__init__()
        self._run = run
        self.facts = facts
        self.digest = digest
        self.tile_step = facts.tile_step
        names = ("in_channels", "classes", "activation", "preprocessing", "class_names", "image_size")
        self.config: dict[str, Any] = {name: getattr(facts, name) for name in names}
        if facts.size:
            self.config["image_size"] = facts.size  # so that tiles have it

    def forward(self, x: Tensor) -> Tensor:
        """Turn images (N, C, H, W), float32, into the mask.

        Images are padded, by repeating their edge, and the mask is cropped, where the program takes multiples or one
        size only.

        Raises:
            InputError: the images are too small, or too large for a program of one size.
        """
        height, width = x.shape[-2:]
        size, smallest = self.facts.size, self.facts.smallest
        if size and (height > size[0] or width > size[1]):
            raise InputError(
                f"the file was exported for images of {size[0]} x {size[1]}, got {height} x {width}. Predict in tiles "
                f"of that size, or export the model for every size."
            )
        if not size and min(height, width) < smallest:
            raise InputError(
                f"the file takes images from {smallest} x {smallest}, got {height} x {width}: below that it was not "
                f"equal to its model. Enlarge them, or predict with the checkpoint."
            )
        multiple = self.facts.size_multiple
        right, down = (size[1] - width, size[0] - height) if size else (-width % multiple, -height % multiple)
        if right or down:
            x = F.pad(x, (0, right, 0, down), mode="replicate")
        mask = torch.from_numpy(self._run(x.contiguous().numpy())[0])
        return mask[..., :height, :width]


def load_onnxruntime(checkpoint: str, device: str | None, threads: int | None) -> ExportedModel:
    """Load an ONNX file that `export` wrote; see `onnx_format.load`."""
    return _load(onnx_format, "onnxruntime", "onnx", checkpoint, device, threads)


def load_openvino(checkpoint: str, device: str | None, threads: int | None) -> ExportedModel:
    """Load a pair of files that `export` wrote for OpenVINO; see `openvino_format.load`."""
    return _load(openvino_format, "openvino", "openvino", checkpoint, device, threads)


def _load(
    kind: Any, backend: str, name: str, checkpoint: str, device: str | None, threads: int | None
) -> ExportedModel:
    path = Path(checkpoint)
    if path.suffix != kind.SUFFIX or not path.is_file():
        what = (
            "is a folder" if path.is_dir() else "is no such file" if path.suffix == kind.SUFFIX else "is another file"
        )
        raise CheckpointError(
            f"the backend {backend} runs files {kind.SUFFIX}; {checkpoint!r} {what}. Export a checkpoint first: "
            f"segcore export CHECKPOINT -o model{kind.SUFFIX} --format {name}"
        )
    return ExportedModel(*kind.load(path, device, threads))
