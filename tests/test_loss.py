"""Losses by name. The losses themselves are tested where they are."""

import json

import click.testing
import pytest
import torch

import segcore
from segcore import LossSpec, OptionValueError, PluginError, UnknownNameError, UnknownOptionError
from segcore.cli import cli
from tests.fake_plugins import fake_site, listing, make_global

SPEC = "LossSpec('tiny-l', factory='tests.test_loss:TinyLoss', title='TinyLoss', defaults={'power': 3})"
SUM = "LossSpec('compound', factory='tests.test_loss:TinySum')"
FUNCTION = "LossSpec('plain', factory='tests.test_loss:NoMode')"


class TinyLoss:
    def __init__(self, mode, power=2, ignore_index=None):
        self.mode, self.power, self.ignore_index = mode, power, ignore_index

    def __call__(self, output, target):
        return (output - target).abs().pow(self.power).mean()


class NoMode(TinyLoss):
    def __init__(self, power=2):
        super().__init__(None, power)


class TinySum:
    def __init__(self, mode, parts, scale=1.0):
        self.mode, self.parts, self.scale = mode, parts, scale

    def __call__(self, output, target):
        return self.scale * sum(segcore.create_loss(part, mode=self.mode)(output, target) for part in self.parts)


@pytest.fixture(autouse=True)
def site(tmp_path, monkeypatch):
    with fake_site(tmp_path / "site", monkeypatch) as made:
        made.install("tiny", listing("tiny-s", SPEC, FUNCTION))
        make_global(made, monkeypatch)
        yield made


def test_by_name_with_options():
    loss = segcore.create_loss("tiny-l", mode="binary", ignore_index=255)
    assert (loss.mode, loss.power, loss.ignore_index) == ("binary", 3, 255)
    assert loss(torch.tensor([3.0]), torch.tensor([1.0])) == 8
    assert segcore.create_loss("tiny/tiny-l", mode="binary", power=1).power == 1


def test_by_record_class_and_local_name():
    assert segcore.create_loss(LossSpec("mine", factory=TinyLoss), mode="binary").power == 2
    assert segcore.create_loss(TinyLoss, mode="binary").mode == "binary"
    segcore.losses["mine"] = {"loss": TinyLoss, "params": {"power": 5}}
    assert segcore.create_loss("mine", mode="binary").power == 5
    assert segcore.list_losses() == ["mine", "plain", "tiny-l"]
    assert segcore.list_losses("*-l") == ["tiny-l"]


def test_a_mode_is_needed_where_the_loss_takes_one():
    with pytest.raises(OptionValueError, match="'tiny-l' needs mode='binary', 'multiclass' or 'multilabel'"):
        segcore.create_loss("tiny-l")
    assert segcore.create_loss("plain", mode="binary").mode is None
    segcore.losses["torch-ce"] = torch.nn.CrossEntropyLoss
    loss = segcore.create_loss("torch-ce", mode="multiclass", label_smoothing=0.1)
    assert loss.label_smoothing == 0.1


def test_unknown_names_and_options_have_near_matches():
    with pytest.raises(UnknownNameError, match=r"No loss is named 'tinyl'.*Did you mean 'tiny-l'"):
        segcore.create_loss("tinyl", mode="binary")
    with pytest.raises(UnknownNameError, match="pip install segcore-plugin-losses"):
        segcore.create_loss("dice", mode="binary")
    with pytest.raises(UnknownOptionError, match=r"'tiny-l' takes no option 'powr'.*Did you mean 'power'"):
        segcore.create_loss("tiny-l", mode="binary", powr=2)
    with pytest.raises(OptionValueError, match="a name, a LossSpec or a class is needed"):
        segcore.create_loss(3, mode="binary")


def test_a_sum_of_names_is_the_compound_loss_with_parts(site):
    with pytest.raises(UnknownNameError, match="pip install segcore-plugin-losses"):
        segcore.create_loss("tiny-l+plain", mode="binary")
    site.install("losses", listing(SUM))
    segcore.refresh()
    loss = segcore.create_loss("tiny-l+plain", mode="binary", scale=2.0)
    assert (loss.mode, loss.parts) == ("binary", ("tiny-l", "plain"))
    assert loss(torch.tensor([3.0]), torch.tensor([1.0])) == 2 * (8 + 4)
    for wrong in ("tiny-l+", "+tiny-l", "tiny-l++plain", "+"):
        with pytest.raises(OptionValueError, match="names joined by"):
            segcore.create_loss(wrong, mode="binary")


def test_a_name_with_a_plus_of_its_own_wins():
    segcore.losses["tiny-l+plain"] = TinyLoss
    assert type(segcore.create_loss("tiny-l+plain", mode="binary")) is TinyLoss


def test_a_factory_that_builds_no_callable_is_told():
    segcore.losses["mine"] = lambda: 3
    with pytest.raises(PluginError, match="must return a callable of output and target, got 3") as caught:
        segcore.create_loss("mine")
    assert caught.value.phase == "contract"


def test_the_command_lists_losses():
    done = click.testing.CliRunner().invoke(cli, ["losses"])
    assert done.output.splitlines()[0].split() == ["name", "title", "package"]
    assert done.output.splitlines()[2].split() == ["tiny-l", "TinyLoss", "segcore-plugin-tiny"]
    done = click.testing.CliRunner().invoke(cli, ["losses", "*-l", "--json"])
    (row,) = json.loads(done.output)
    assert (row["kind"], row["qualified"], row["defaults"]) == ("loss", "tiny/tiny-l", {"power": 3})
