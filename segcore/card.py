"""The model card that lies beside a checkpoint: what is known, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MARK = "<!-- written by segcore; a card without this line is left alone -->"

_SPDX = ("apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "cc0-1.0")


def model_card(config: Mapping[str, Any]) -> str:
    """Return a card in Markdown for a model's config, with metadata for the hub.

    The licence is that of the weights the encoder started from, if they have one; otherwise none is stated, since
    the licence of a trained model is for those who trained it to choose.
    """
    encoder, decoder = config["encoder"], config["decoder"]
    origin = encoder.get("weights") or {}
    licence = origin.get("license")
    front = ["library_name: segcore", "pipeline_tag: image-segmentation", "tags: [segcore, semantic-segmentation]"]
    if licence:
        short = licence.lower()
        front += [f"license: {short}"] if short in _SPDX else ["license: other", f"license_name: {_quoted(licence)}"]
    packages = sorted(
        {f"{part['distribution']}=={part['version']}" for part in (encoder, decoder) if part["distribution"]}
    )
    rows = [
        ("decoder", decoder["name"]),
        ("encoder", encoder["name"]),
        ("image", f"{config['in_channels']} channels"),
        ("trained on", _size(config.get("image_size"))),
        ("mask", f"{config['classes']} channels, {config['activation'] or 'logits'}"),
        ("classes", ", ".join(config.get("class_names") or ()) or "not named"),
        (
            "encoder started from",
            f"{origin.get('source')} ({licence or 'licence not stated'})" if origin else "random weights",
        ),
    ]
    lines = ["---", *front, "---", MARK, "", f"# {decoder['name']} with {encoder['name']}", "", "| | |", "|---|---|"]
    lines += [f"| {key} | {_cell(value)} |" for key, value in rows]
    lines += ["", "```console", f"$ pip install segcore {' '.join(packages)}".rstrip(), "```", ""]
    lines += ["```python", "import segcore", "", 'model = segcore.from_pretrained("path/to/this/folder")', "```", ""]
    return "\n".join(lines)


def _size(size: Sequence[int] | None) -> str:
    return "images of unknown size" if size is None else f"images, crops or tiles of {size[0]} x {size[1]} pixels"


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "").replace('"', "'").replace("\n", " ") + '"'
