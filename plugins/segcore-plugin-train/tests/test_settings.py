import subprocess
import sys

import pytest
import segcore_plugin_train
from click.testing import CliRunner
from segcore_plugin_train import Settings, command
from segcore_plugin_train.settings import FIELDS, parse_assignment, read_settings

from segcore import OptionValueError, UnknownOptionError
from segcore.cli import cli


def test_yaml_and_toml_mean_the_same(tmp_path):
    (tmp_path / "a.yaml").write_text(
        "images: i\nbatch-size: 2\nlr: 1e-3\nprecision: 32\nlabel: {0: 0, '#ff0000': 1}\nnames: [a, b]\nema: null\n"
    )
    (tmp_path / "a.toml").write_text(
        'images = "i"\nbatch_size = 2\nlr = 0.001\nprecision = "32"\nnames = ["a", "b"]\n[label]\n0 = 0\n"#ff0000" = 1\n'
    )
    yaml = read_settings(tmp_path / "a.yaml")
    assert yaml == {**read_settings(tmp_path / "a.toml"), "ema": None}
    assert Settings(**yaml).label == {"0": 0, "#ff0000": 1}


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("batchsize: 2", UnknownOptionError, "batch_size"),
        ("batch_size: two", OptionValueError, "int is needed"),
        ("batch_size: true", OptionValueError, "int is needed"),
        ("lr: fast", OptionValueError, "float is needed"),
        ("names: a", OptionValueError, "list is needed"),
        ("bands: [a]", OptionValueError, "list is needed"),
        ("label: [a]", OptionValueError, "dict is needed"),
        ("epochs: null", OptionValueError, "int is needed"),
        ("- a", OptionValueError, "names and values"),
        ("a: [", OptionValueError, "cannot be read"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, text, kind, message):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(kind, match=message):
        read_settings(tmp_path / "a.yaml")


def test_a_file_that_is_missing(tmp_path):
    with pytest.raises(OptionValueError, match="cannot be read"):
        read_settings(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch_size": 1.5},
        {"precision": "8"},
        {"tile": 0},
        {"strategy": "fsdp", "precision": "16"},
        {"strategy": "fsdp", "tile": 64},
        {"strategy": "dp"},
        {"strategy": "fsdp", "compile": True},
        {"check": "all"},
        {"steps": 0},
    ],
)
def test_values_that_make_no_sense(wrong):
    with pytest.raises(OptionValueError):
        Settings(**wrong)


def test_assignments():
    assert parse_assignment("option", "encoder_depth=4") == ("encoder_depth", 4)
    assert parse_assignment("label", "#ff0000=ignore") == ("#ff0000", "ignore")
    with pytest.raises(OptionValueError, match="--loss-option"):
        parse_assignment("loss_option", "smooth")


def test_the_command_line_wins_over_the_file_and_gives_every_field(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("segcore_plugin_train.run.train", lambda settings, tell: asked.append(settings))
    (tmp_path / "a.yaml").write_text("images: i\nmasks: m\nepochs: 3\nchannels_last: true\n")
    words = [
        "train",
        "--config",
        tmp_path / "a.yaml",
        "--epochs",
        5,
        "--names",
        "a",
        "--names",
        "b",
        "--no-channels-last",
    ]
    words += ["--option", "encoder_depth=4", "--label", "7=1", "--resume"]
    result = CliRunner().invoke(cli, list(map(str, words)))
    assert result.exit_code == 0, result.output
    assert asked == [
        Settings(
            images="i", masks="m", epochs=5, names=["a", "b"], option={"encoder_depth": 4}, label={"7": 1}, resume=True
        )
    ]
    options = {name for parameter in command.train_command.params for name in [parameter.name]}
    assert set(FIELDS) <= options


def test_help_loads_neither_torch_nor_lightning():
    code = """
import sys
from segcore.cli import main
for name in ("train", "evaluate"):
    try:
        main([name, "--help"])
    except SystemExit as stop:
        assert not stop.code
assert not {"torch", "lightning", "PIL", "numpy", "yaml"} & set(sys.modules), sorted(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--unfreeze-epoch" in done.stdout


def test_every_public_name_is_there_and_others_are_not():
    for name in segcore_plugin_train.__all__:
        assert getattr(segcore_plugin_train, name).__doc__
    with pytest.raises(AttributeError):
        segcore_plugin_train.nothing  # noqa: B018
