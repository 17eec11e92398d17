"""Every architecture of timm against strides and channels that were measured by an independent walk over timm.

``measured.tsv`` was made by building each of timm 1.0.31's 1371 architectures with ``features_only`` and reading the
sizes of what an image gives; it knows nothing of this package.
"""

import re
from pathlib import Path

import pytest
import segcore_plugin_timm as plugin
from segcore_plugin_timm.architectures import facts

from segcore import IncompatiblePartsError

ROWS = [
    line.split("\t")
    for line in Path(__file__).with_name("measured.tsv").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]
REFUSED = re.compile("gemma4_vit_")


def test_the_walk_covers_timm():
    assert len(ROWS) == 1371
    assert sum(strides.endswith("*") for _, strides, _ in ROWS) == 12


def test_every_record_has_the_measured_strides_and_channels():
    wrong = {}
    for name, strides, channels in ROWS:
        if REFUSED.match(name):
            continue
        spec = plugin.segcore_find("encoder", f"tu-{name}")
        given = list(zip(spec.strides, spec.out_channels, strict=True))
        pairs = zip(map(int, strides.strip("*").split()), map(int, channels.split()), strict=True)
        measured = [(stride, width) for stride, width in pairs if stride <= 32]
        if measured[0][0] != 1:
            given = given[1:] if given[0] == (1, 3) else None
        if facts(name).kind == "isotropic":  # timm gives its last three blocks, the record four evenly spaced ones
            given, measured = set(given), set(measured)
        if given != measured:
            wrong[name] = (given, measured)
    assert wrong == {}


def test_maps_that_do_not_have_the_size_of_their_stride_are_resized():
    starred = {name for name, strides, _ in ROWS if strides.endswith("*")}
    assert starred == {name for name in starred if not facts(name).exact}
    assert {name.split("_")[0] for name in starred} == {"inception", "legacy", "pit"}


def test_what_timm_has_and_cannot_be_an_encoder_is_refused_by_name_with_the_reason():
    refused = [name for name, _, _ in ROWS if REFUSED.match(name)]
    assert len(refused) == 4
    for name in refused:
        for prefix in ("timm/", "tu-"):
            with pytest.raises(IncompatiblePartsError, match=f"'{name}' cannot be an encoder: it selects patches by"):
                plugin.segcore_find("encoder", prefix + name)
