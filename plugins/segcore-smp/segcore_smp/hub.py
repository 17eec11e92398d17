"""Files on the Hugging Face Hub, through huggingface_hub."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import segcore


def hub_file(source: str | Path, name: str, options: Mapping[str, Any]) -> str:
    """Return the path of one file of a checkpoint, fetched if it is in a repository.

    Args:
        source: a folder, or ``owner/name``.
        name: of the file.
        options: of ``hf_hub_download``.

    Raises:
        CheckpointError: the folder does not hold the file, or there is no folder, and no repository can be meant.
        WeightsError: huggingface_hub is not installed.
    """
    folder = Path(source) / (options.get("subfolder") or "")
    if folder.is_dir():
        if not (folder / name).is_file():
            raise segcore.CheckpointError(f"{str(folder)!r} holds no {name}, so it is no checkpoint.")
        return str(folder / name)
    text = os.fspath(source)
    if text.count("/") != 1 or text.startswith((".", "/", "~")):
        raise segcore.CheckpointError(f"{text!r} is no folder, and no name of a repository such as 'owner/name'.")
    given = {key: value for key, value in options.items() if value is not None}
    if os.environ.get("SEGCORE_OFFLINE", "").lower() in {"1", "true", "yes", "on"}:
        given["local_files_only"] = True
    return str(_hub().hf_hub_download(text, filename=name, **given))


def upload(folder: Path, repo_id: str, **options: Any) -> str:
    """Upload a folder, making the repository if needed; return the address of the commit.

    Args:
        folder: what to upload.
        repo_id: ``owner/name``.
        **options: as in ``push_to_hub``.

    Raises:
        WeightsError: huggingface_hub is not installed.
    """
    hub = _hub()
    api = hub.HfApi(token=options.get("token"))
    repo = api.create_repo(repo_id=repo_id, private=options.get("private"), exist_ok=True).repo_id
    chosen = {"allow_patterns", "ignore_patterns", "delete_patterns", "create_pr", "commit_message"}
    given = {key: value for key, value in options.items() if key in chosen}
    return str(api.upload_folder(repo_id=repo, folder_path=folder, revision=options.get("branch"), **given))


def _hub() -> Any:
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError:
        raise segcore.WeightsError(
            "the Hugging Face Hub needs the package huggingface_hub: `pip install segcore-smp[hub]`."
        ) from None
