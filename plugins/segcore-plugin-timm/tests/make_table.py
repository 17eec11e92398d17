"""Writes the plugin's two tables: ``python make_table.py MATRIX.csv TAGS.csv [--again]``.

MATRIX.csv has one row per architecture with `name`, `strides`, `channels` and `feat_params` as found by an independent
walk; what is measured here is compared with it. TAGS.csv has one row per pretrained tag, as timm's configurations
state it. Architectures that are in the table already are left as they are, unless ``--again`` is given.
"""

import csv
import dataclasses
import signal
import sys
from pathlib import Path

import segcore_plugin_timm
import torch
from segcore_plugin_timm.architectures import Architecture, format_line, parse
from segcore_plugin_timm.build import features_network
from segcore_plugin_timm.measure import measure

from segcore import guard_torchvision

FOLDER = Path(segcore_plugin_timm.__file__).parent
REFUSED = {
    "gemma4_vit": "it selects patches by their values while it runs, so it can be neither exported nor compiled, "
    "and gives no map of a known size",
}
LIKE = dict.fromkeys(("sequencer2d_m", "sequencer2d_l"), "sequencer2d_s")  # their LSTMs take minutes on meta
SECONDS = 180


def measured(name: str) -> Architecture:
    if name in LIKE:
        with torch.device("meta"):
            network = features_network(name, indices=measure(LIKE[name]).indices)
        parameters = sum(value.numel() for value in network.parameters())
        return dataclasses.replace(measure(LIKE[name]), parameters=parameters)
    signal.alarm(SECONDS)
    try:
        return measure(name)
    finally:
        signal.alarm(0)


def compare(row: Architecture, matrix: dict[str, str]) -> list[str]:
    """Return what differs from the independent walk; levels deeper than 32 and other blocks are no difference."""
    strides = [int(word) for word in matrix["strides"].split()]
    channels = [int(word) for word in matrix["channels"].split()]
    kept = [(s, c) for s, c in zip(strides, channels, strict=True) if s <= 32]
    own = list(zip(row.strides, row.channels, strict=True))[0 if strides[0] == 1 else 1 :]
    if row.kind == "isotropic":
        kept, own = kept[-1:], own[-1:]
    differences = [] if kept == own else [f"levels {own}, not {kept}"]
    if row.parameters != int(matrix["feat_params"]):
        differences.append(f"{row.parameters} parameters, not {matrix['feat_params']}")
    return differences


def write_architectures(matrix: Path, again: bool) -> None:
    target = FOLDER / "architectures.tsv"
    lines = {}
    if target.exists() and not again:
        rows = (line for line in target.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
        lines = dict(line.split("\t", 1) for line in rows)
    for row in csv.DictReader(matrix.open(encoding="utf-8")):
        name = row["name"]
        if name in lines:
            continue
        try:
            facts = measured(name)
        except Exception as error:
            print(f"{name}: {type(error).__name__}: {error}"[:200], flush=True)
            continue
        refused = next((reason for family, reason in REFUSED.items() if name.startswith(family)), "")
        lines[name] = format_line(facts).rsplit("\t", 1)[0] + "\t" + refused
        for difference in compare(facts, row):
            print(f"{name}: {difference}", flush=True)
        if len(lines) % 50 == 0:
            save(target, lines)
    assert all(format_line(parse(line)) == line for line in lines.values())
    save(target, lines)


def save(target: Path, lines: dict[str, str]) -> None:
    head = "# name, strides, channels, indices, kind and policy, size/multiple, blocks, prefix tokens, parameters, ..."
    body = [f"{name}\t{line}" for name, line in sorted(lines.items())]
    target.write_text("\n".join([head, *body, ""]), encoding="utf-8")


def write_tags(tags: Path) -> None:
    """Write the distinct means and deviations (``@`` lines), then one line per tag that lies on the hub."""
    norms, lines = [], []
    for row in csv.DictReader(tags.open(encoding="utf-8")):
        repository = row["hf_hub_id"]
        if not repository:
            continue
        norm = "\t".join(" ".join(word.strip() for word in row[key].strip("()").split(",")) for key in ("mean", "std"))
        norms += [norm] if norm not in norms else []
        usual = repository == f"timm/{row['name']}"
        lines.append("\t".join([row["name"], row["license"], str(norms.index(norm)), "" if usual else repository]))
    head = "# name.tag, licence, number of its mean and std (the lines with @), repository if it is not timm/name.tag"
    text = "\n".join([head, *(f"@{norm}" for norm in norms), *sorted(lines), ""])
    (FOLDER / "tags.tsv").write_text(text, encoding="utf-8")


def skip_initialisation() -> None:
    """Most of the time of a build on the meta device goes into drawing numbers that are never drawn."""
    guard_torchvision()
    import timm.layers.weight_init as timm_init

    for module, names in ((torch.nn.init, dir(torch.nn.init)), (timm_init, ["_trunc_normal_"])):
        for name in names:
            if name.endswith("_") and not name.endswith("__"):
                setattr(module, name, lambda tensor, *_, **__: tensor)


if __name__ == "__main__":
    skip_initialisation()
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(TimeoutError("took too long")))
    write_tags(Path(sys.argv[2]))
    write_architectures(Path(sys.argv[1]), again="--again" in sys.argv[3:])
