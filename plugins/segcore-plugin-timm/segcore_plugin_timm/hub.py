"""Fetches weights from the Hugging Face Hub with the client that timm depends on, into that client's own cache."""

from __future__ import annotations

from pathlib import Path

from segcore import Weights


def fetch(weights: Weights) -> Path | None:
    """Return the local file of weights at an ``hf://`` address, or None for other addresses.

    The client's variables hold: ``HF_HUB_OFFLINE=1`` takes the file from the cache or fails, ``HF_HOME`` moves the
    cache, ``HF_TOKEN`` opens gated repositories.
    """
    if not weights.url.startswith("hf://"):
        return None
    from huggingface_hub import hf_hub_download

    owner, name, file = weights.url.removeprefix("hf://").split("/", 2)
    return Path(hf_hub_download(f"{owner}/{name}", file, revision=weights.revision))
