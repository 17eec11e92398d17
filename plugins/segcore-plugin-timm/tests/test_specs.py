"""What the plugin lists and finds, without building anything but on the meta device."""

import dataclasses
import json
import pickle
import subprocess
import sys
import textwrap

import pytest
import segcore_plugin_timm as plugin
import timm
import torch
from segcore_plugin_timm import specs as module
from segcore_plugin_timm import tags
from segcore_plugin_timm.architectures import facts, format_line, parse, table
from segcore_plugin_timm.families import classic_specs

from segcore import IncompatiblePartsError, Weights
from segcore.specs import as_json

LISTED = {spec.name: spec for spec in plugin.segcore_specs()}
REVISION = "0123456789abcdef0123456789abcdef01234567"
SAMPLE = [
    "beit_base_patch16_224",
    "cait_xxs24_224",
    "caformer_s18",
    "coat_lite_tiny",
    "coatnet_0_rw_224",
    "convformer_s18",
    "convmixer_768_32",
    "convnext_tiny",
    "convnextv2_atto",
    "cspdarknet53",
    "cs3darknet_s",
    "darknet53",
    "davit_tiny",
    "deit_tiny_distilled_patch16_224",
    "densenet121",
    "dla34",
    "dm_nfnet_f0",
    "dpn68",
    "edgenext_xx_small",
    "efficientformerv2_s0",
    "efficientnet_b0",
    "efficientnet_lite0",
    "efficientvit_b0",
    "eva02_tiny_patch14_224",
    "fastvit_t8",
    "focalnet_tiny_srf",
    "gcvit_xxtiny",
    "ghostnet_100",
    "gmixer_24_224",
    "halonet26t",
    "hgnetv2_b0",
    "hiera_tiny_224",
    "hrnet_w18_small",
    "inception_next_tiny",
    "legacy_seresnet18",
    "legacy_xception",
    "levit_128s",
    "mambaout_femto",
    "maxvit_pico_rw_256",
    "mixer_b16_224",
    "mixnet_s",
    "mobilenetv3_small_100",
    "mobilenetv4_conv_small",
    "mobileone_s0",
    "mobilevit_xxs",
    "mobilevitv2_050",
    "mvitv2_tiny",
    "nest_tiny",
    "nf_resnet26",
    "pit_ti_224",
    "poolformer_s12",
    "pvt_v2_b0",
    "regnetx_002",
    "repvgg_a0",
    "repvit_m0_9",
    "res2net50_14w_8s",
    "resnest14d",
    "resnet18",
    "resnetv2_50",
    "rexnet_100",
    "selecsls42b",
    "skresnet18",
    "swin_tiny_patch4_window7_224",
    "swinv2_tiny_window8_256",
    "tf_efficientnet_lite0",
    "tiny_vit_5m_224",
    "tnt_s_patch16_224",
    "tresnet_m",
    "twins_svt_small",
    "vgg11",
    "visformer_tiny",
    "vit_small_patch14_dinov2",
    "vit_tiny_patch16_224",
    "volo_d1_224",
    "vovnet39a",
    "xception41",
    "xcit_nano_12_p16_224",
]


def test_every_record_is_well_formed_and_pickles():
    assert {name: spec.problem() for name, spec in LISTED.items() if spec.problem()} == {}
    assert len(LISTED) == len(classic_specs()) + sum(not parse(line).refused for line in table().values())
    spec = LISTED["timm/resnet18"]
    assert pickle.loads(pickle.dumps(spec)) == spec
    json.dumps(as_json(spec))


def test_the_table_has_every_architecture_that_timm_has():
    known = set(timm.list_models())
    assert set(table()) <= known
    assert all(format_line(parse(line)) == line for line in table().values())


def test_listing_imports_neither_torch_nor_timm():
    code = """
        import sys
        import segcore_plugin_timm
        specs = list(segcore_plugin_timm.segcore_specs())
        assert segcore_plugin_timm.segcore_find("encoder", "tu-resnet18").name == "timm/resnet18"
        assert len(specs) > 1000 and all(spec.problem() is None for spec in specs)
        print(sorted({"torch", "timm", "torchvision", "numpy"} & set(sys.modules)))
    """
    printed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    ).stdout
    assert printed.strip() == "[]"


@pytest.mark.parametrize("name", SAMPLE)
def test_the_table_agrees_with_timm(name):
    row = facts(name)
    with torch.device("meta"):
        info = timm.create_model(name, features_only=True).feature_info
    if row.kind == "isotropic":
        assert {row.blocks} == {len(info.info)}
        assert row.indices[-1] == len(info.info) - 1
    kept = [info.info[index] for index in row.indices]
    deep = slice(len(row.strides) - len(row.indices), None)
    assert [level["reduction"] for level in kept] == list(row.strides[deep])
    assert [level["num_chs"] for level in kept] == list(row.channels[deep])
    if row.kind == "pyramid":
        assert row.strides[deep] == tuple(stride for stride in info.reduction() if stride <= 32)


def test_the_qualified_name_of_a_classic_encoder_is_its_own():
    assert "vgg16" in LISTED
    assert "timm/vgg16" not in LISTED
    assert "tu-vgg16" in LISTED
    assert LISTED["tu-vgg16"].factory == LISTED["timm/resnet18"].factory
    assert plugin.segcore_find("encoder", "timm/vgg16") == LISTED["vgg16"]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("tu-resnet18", "timm/resnet18"),
        ("timm/tu-resnet18", "timm/resnet18"),
        ("timm-regnetx_002", "timm/regnetx_002"),
        ("timm-mobilenetv3_large_minimal_100", "timm/tf_mobilenetv3_large_minimal_100"),
        ("timm-res2net50_26w_4s", "timm/res2net50_26w_4s"),
    ],
)
def test_names_of_smp_mean_the_same_network(asked, found):
    spec = plugin.segcore_find("encoder", asked)
    assert spec.name == found
    assert asked in spec.aliases
    assert spec.deprecated == f"write {found!r}"
    assert spec.problem() is None


def test_a_classic_name_with_tu_is_timms_own_network():
    spec = plugin.segcore_find("encoder", "tu-densenet121")
    assert (spec.name, spec.deprecated) == ("tu-densenet121", None)


@pytest.mark.parametrize(
    "name", ["timm/no_such_network", "tu-no_such_network", "timm-resnet18", "timm/resnet18.no_such_tag", "timm/"]
)
def test_what_does_not_exist_is_not_found(name):
    assert plugin.segcore_find("encoder", name) is None


def test_other_kinds_are_not_found():
    assert plugin.segcore_find("decoder", "timm/resnet18") is None


def test_what_cannot_be_an_encoder_is_refused_with_its_reason():
    refused = [name for name, line in table().items() if parse(line).refused]
    assert len(refused) == 4
    assert not set(refused) & {name.removeprefix("timm/") for name in LISTED}
    with pytest.raises(IncompatiblePartsError, match="neither exported nor compiled"):
        plugin.segcore_find("encoder", f"timm/{refused[0]}")


@pytest.fixture
def pinned(monkeypatch):
    rows = dict(tags._rows("tags.tsv"))
    pins = {"resnet18": {"a1_in1k": [REVISION, "", "123"]}, "densenet121": {"ra_in1k": [REVISION, "ab" * 32, ""]}}
    monkeypatch.setattr(tags, "_rows", lambda file: pins if file == "pins.tsv" else rows)


@pytest.mark.usefixtures("pinned")
def test_a_pinned_tag_is_found_by_name_and_offered_by_the_architecture():
    spec = plugin.segcore_find("encoder", "timm/resnet18.a1_in1k")
    assert spec.name == "timm/resnet18.a1_in1k"
    assert spec.options == {"name": "resnet18"}
    assert dict(spec.weights) == {
        "a1_in1k": Weights(
            url="hf://timm/resnet18.a1_in1k/model.safetensors",
            license="apache-2.0",
            source="timm: resnet18.a1_in1k",
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
            revision=REVISION,
            size=123,
        )
    }
    assert spec.problem() is None
    assert list(LISTED["timm/resnet18"].weights) == ["a1_in1k"]
    assert len(LISTED["timm/resnet18"].weights) == 1
    assert "a1_in1k" not in LISTED["timm/resnet18"].unpinned
    classic = plugin.segcore_find("encoder", "timm/densenet121.ra_in1k")
    assert (classic.name, classic.factory) == ("densenet121.ra_in1k", LISTED["densenet121"].factory)
    assert classic.weights["ra_in1k"].sha256 == "ab" * 32


def test_a_tag_without_a_pin_is_listed_with_its_licence_and_found_by_name():
    spec = plugin.segcore_find("encoder", "timm/resnet18.gluon_in1k")
    assert (spec.name, spec.options, dict(spec.weights)) == ("timm/resnet18.gluon_in1k", {"name": "resnet18"}, {})
    assert spec.problem() is None
    (record,) = spec.unpinned.values()
    assert (record.license, record.source, record.revision) == ("apache-2.0", "timm: resnet18.gluon_in1k", None)
    listed = LISTED["timm/resnet18"]
    assert listed.unpinned["gluon_in1k"] == record
    assert {*listed.weights, *listed.unpinned} == set(tags.tags_of("resnet18"))
    with pytest.raises(KeyError):
        listed.unpinned["no_such_tag"]
    assert listed.weights_named(f"gluon_in1k@{REVISION}").revision == REVISION
    assert listed.weights_named("gluon_in1k") is None
    assert plugin.segcore_find("encoder", "timm/vgg16.tv_in1k").name == "vgg16.tv_in1k"
    assert list(plugin.segcore_find("encoder", "tu-vgg16.tv_in1k").unpinned) == ["tv_in1k"]


def test_all_tags_have_a_complete_record():
    for architecture in table():
        for tag in tags.tags_of(architecture):
            record = tags.tag_record(architecture, tag)
            assert dataclasses.replace(record, revision=REVISION).problem() is None


def test_a_network_that_the_table_lacks_is_measured(monkeypatch):
    full = dict(table())
    line = full.pop("resnet10t")
    monkeypatch.setattr("segcore_plugin_timm.architectures.table", lambda: full)
    spec = module.find("timm/resnet10t")
    assert spec == module.spec_of("resnet10t", parse(line))


@pytest.mark.parametrize(("version", "lines"), [("1.0.31", 0), ("1.1.0.dev0", 0), ("1.0.20", 1)])
def test_an_older_timm_is_reported(monkeypatch, version, lines):
    monkeypatch.setattr(plugin.importlib.metadata, "version", lambda _name: version)
    assert len(list(plugin.segcore_doctor())) == lines
