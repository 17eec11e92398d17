"""What an exported file says of itself: texts by name, each the JSON of a value; this module needs no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from segcore import CheckpointError

PREFIX = "segcore."
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Facts:
    """What belongs to an exported model; in the file each name begins with ``segcore.`` and each value is JSON.

    Attributes:
        version: of segcore.
        decoder: name.
        encoder: name, None for one that was passed as an object.
        in_channels: of the image.
        classes: channels of the mask.
        class_names: of the mask's channels, if they are named.
        activation: what the mask went through; None or ``"identity"`` for logits.
        preprocessing: ``mean``, ``std``, ``input_range`` and ``input_space``: an image of values in [0, 1] and RGB is
            put in the order of `input_space`, scaled to `input_range`, then ``(x - mean) / std``.
        image_size: height and width of the images that the weights were trained on, if recorded.
        licence: of the weights, if known.
        outputs: names of the outputs.
        output_stride: stride of the encoder's deepest map.
        tile_step: tiles start at multiples of this.
        size: the only height and width that the program takes, None for many.
        size_multiple: height and width must be multiples of it; 1 for any.
        smallest: least height and width that were compared with the model.
        weights_sha256: of the file with the weights, where that is another file.
        format: of these metadata.
    """

    version: str
    decoder: str | None
    encoder: str | None
    in_channels: int
    classes: int
    class_names: list[str] | None
    activation: str | None
    preprocessing: dict[str, Any] | None
    image_size: list[int] | None
    licence: str | None
    outputs: list[str]
    output_stride: int
    tile_step: int
    size: list[int] | None
    size_multiple: int = 1
    smallest: int = 1
    weights_sha256: str | None = None
    format: int = FORMAT

    def texts(self) -> dict[str, str]:
        """Return the metadata as they are written."""
        return {f"{PREFIX}{name}": json.dumps(value) for name, value in asdict(self).items()}

    @classmethod
    def read(cls, texts: Mapping[str, str], where: str) -> Facts:
        """Return the metadata of a file; entries of others are left alone.

        Raises:
            CheckpointError: the file was not exported by segcore, or by a newer one.
        """
        found = {name.removeprefix(PREFIX): text for name, text in texts.items() if name.startswith(PREFIX)}
        try:
            values = {name: json.loads(text) for name, text in found.items()}
        except ValueError as error:
            raise CheckpointError(f"the metadata of {where!r} are damaged: {error}. Export the model again.") from error
        if not values:
            raise CheckpointError(f"{where!r} was not written by segcore export: it has no metadata of segcore.")
        if values.get("format") != FORMAT:
            raise CheckpointError(
                f"{where!r} has metadata of format {values.get('format')!r}; this version reads {FORMAT}. Upgrade "
                f"segcore-plugin-export, or export the model again."
            )
        names = {field.name for field in fields(cls)}
        missing = sorted(names - values.keys())
        if missing:
            raise CheckpointError(f"the metadata of {where!r} lack {', '.join(missing)}. Export the model again.")
        return cls(**{name: values[name] for name in names})
