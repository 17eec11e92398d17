"""Writes ``pins.tsv``: the current commit and checksum of each of timm's tags. ``python pin_tags.py [name.tag ...]``.

Needs the network, and ``HF_TOKEN`` for gated repositories. Without names it asks for every tag that has no pin.
Look at the difference before it is committed: a pin says that somebody vouches for the file.
"""

import sys
from pathlib import Path

import segcore_plugin_timm
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError
from segcore_plugin_timm.architectures import table
from segcore_plugin_timm.tags import tag_record, tags_of

TARGET = Path(segcore_plugin_timm.__file__).with_name("pins.tsv")
FILE = "model.safetensors"


def pin(name: str, api: HfApi) -> str | None:
    """Return the line of a tag, or None with a printed reason."""
    owner, repository, _ = tag_record(*name.split(".", 1)).url.removeprefix("hf://").split("/", 2)
    try:
        info = api.model_info(f"{owner}/{repository}", files_metadata=True)
    except HfHubHTTPError as error:
        print(f"{name}: {error}")
        return None
    file = next((file for file in info.siblings or () if file.rfilename == FILE), None)
    if file is None or file.lfs is None:
        print(f"{name}: {owner}/{repository} has no {FILE}")
        return None
    return f"{name}\t{info.sha}\t{file.lfs.sha256}\t{file.lfs.size}"


if __name__ == "__main__":
    head, *old = TARGET.read_text(encoding="utf-8").splitlines()
    lines = {line.split("\t", 1)[0]: line for line in old}
    every = [f"{name}.{tag}" for name in table() for tag in tags_of(name)]
    for name in sys.argv[1:] or [name for name in every if name not in lines]:
        line = pin(name, HfApi())
        if line is not None:
            lines[name] = line
    TARGET.write_text("\n".join([head, *(lines[name] for name in sorted(lines)), ""]), encoding="utf-8")
