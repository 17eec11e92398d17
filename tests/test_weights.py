import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import segcore
from segcore import EncoderSpec, PluginError, Weights, WeightsError, weights
from segcore.testing import TinyEncoder

CHANNELS = (3, 8, 16, 24, 32, 40)


@pytest.fixture
def published(tmp_path):
    torch.manual_seed(1)
    encoder = TinyEncoder()
    path = tmp_path / "tiny.safetensors"
    save_file(encoder.state_dict(), path)
    return encoder, path


def record(path, **changes):
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    facts = {"url": "https://example.org/tiny.safetensors", "license": "MIT", "source": "a test", "sha256": digest}
    return Weights(mean=(0.5,) * 3, std=(0.5,) * 3, **(facts | changes))


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_from_a_path_and_from_a_state_dict(published):
    encoder, path = published
    for given in (path, str(path), encoder.state_dict()):
        assert same(segcore.create_encoder(TinyEncoder(), weights=given), encoder)


def test_other_input_channels_are_fitted(published):
    encoder, path = published
    grey = segcore.create_encoder(EncoderSpec("tiny", factory=TinyEncoder), weights=path, in_channels=1)
    assert torch.equal(grey.first.weight, encoder.first.weight.sum(1, keepdim=True))
    five = segcore.create_encoder(TinyEncoder, weights=path, in_channels=5, input_init="rgb+zero")
    assert torch.equal(five.first.weight[:, :3], encoder.first.weight)
    assert five.first.weight[:, 3:].abs().max() == 0


def test_the_caller_keeps_what_it_gave(published):
    state = published[0].state_dict()
    keys, version = list(state), state["first.weight"]._version
    segcore.create_encoder(TinyEncoder, weights=state, in_channels=4)
    assert list(state) == keys
    assert state["first.weight"]._version == version


def test_what_does_not_fit_is_said_with_counts(published):
    state = dict(published[0].state_dict())
    state["extra.weight"] = state.pop("first.bias")
    state["stages.0.0.weight"] = torch.zeros(1)
    with pytest.raises(
        WeightsError,
        match=r"1 missing \(first.bias\), 1 unexpected \(extra.weight\), 1 misshapen \(stages.0.0.weight \(1,\) instead of",
    ):
        segcore.create_encoder(TinyEncoder, weights=state)


def test_nothing_is_built_for_weights_that_cannot_be_loaded(tmp_path):
    def never():
        raise AssertionError("built")

    spec = EncoderSpec("never", factory=never, out_channels=CHANNELS)
    for given, says in (
        ("imagenet", "no published weights"),
        (tmp_path / "no.safetensors", "no such file"),
        ("weights.pth", "no such file"),
        (3, "is needed"),
    ):
        with pytest.raises(WeightsError, match=says):
            segcore.create_encoder(spec, weights=given)


def test_pickles_are_not_read(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(TinyEncoder().state_dict(), path)
    with pytest.raises(WeightsError, match="only .safetensors files are read"):
        segcore.create_encoder(TinyEncoder, weights=path)
    renamed = path.rename(tmp_path / "renamed.safetensors")
    with pytest.raises(WeightsError, match="cannot be read"):
        segcore.create_encoder(TinyEncoder, weights=renamed)


class TestTags:
    def test_misspelt(self, published):
        spec = EncoderSpec("tiny", factory=TinyEncoder, weights={"imagenet": record(published[1])})
        with pytest.raises(WeightsError, match="it has 'imagenet'.* Did you mean 'imagenet'"):
            segcore.create_encoder(spec, weights="imagnet")

    def test_unpinned_weights_need_the_commit_that_the_user_trusts(self, published, monkeypatch):
        encoder, path = published
        loose = record(path, url="hf://owner/tiny/model.safetensors", sha256=None)
        spec = EncoderSpec("tiny", factory=TinyEncoder, unpinned={"web": loose})
        for asked, says in (
            ("web", "hf://owner/tiny/model.safetensors .MIT., .*'web@<40 hex"),
            ("web@main", "'main' is none"),
        ):
            with pytest.raises(WeightsError, match=says):
                segcore.create_encoder(spec, weights=asked)
        with pytest.raises(WeightsError, match="it has 'web@<commit>'.* Did you mean 'web'"):
            segcore.create_encoder(spec, weights="wep")
        with pytest.raises(WeightsError, match="has no weights"):  # what is pinned is not to be pinned otherwise
            segcore.create_encoder(replace(spec, weights={"own": record(path)}), weights="own@" + "b" * 40)
        asked = []
        monkeypatch.setattr(weights, "fetch", lambda *words: asked.append(words) or path)
        commit = "0123456789abcdef" * 2 + "01234567"
        assert same(segcore.create_encoder(spec, weights=f"web@{commit}"), encoder)
        assert asked == [(replace(loose, revision=commit), "tiny", f"web@{commit}")]
        wanted = segcore.Preprocessing((0.5,) * 3, (0.5,) * 3)
        assert segcore.preprocessing(spec, "web") == segcore.preprocessing(spec, f"web@{commit}") == wanted

    def test_package_data_are_verified(self, published, monkeypatch):
        encoder, path = published
        monkeypatch.syspath_prepend(path.parent)
        url = f"package://{path.parent.name}_data/tiny.safetensors"
        package = path.parent / f"{path.parent.name}_data"
        package.mkdir()
        (package / "__init__.py").touch()
        path = path.rename(package / path.name)
        good = EncoderSpec("tiny", factory=TinyEncoder, weights={"own": record(path, url=url)})
        assert same(segcore.create_encoder(good, weights="own"), encoder)
        bad = EncoderSpec("tiny", factory=TinyEncoder, weights={"own": record(path, url=url, sha256="0" * 64)})
        with pytest.raises(WeightsError, match="is not what .* published"):
            segcore.create_encoder(bad, weights="own")

    def test_a_mirror_is_asked_first_and_verified(self, published, monkeypatch):
        encoder, path = published
        plugin = segcore.Plugin("mirror", "mirror", "segcore-plugin-mirror", "1.0")
        answer = {"path": path}
        monkeypatch.setattr(weights.catalogue, "implementations", lambda hook: [(plugin, lambda **_: answer["path"])])
        spec = EncoderSpec("tiny", factory=TinyEncoder, weights={"imagenet": record(path)})
        assert same(segcore.create_encoder(spec, weights="imagenet"), encoder)
        wrong = EncoderSpec("tiny", factory=TinyEncoder, weights={"imagenet": record(path, sha256="1" * 64)})
        with pytest.raises(WeightsError, match=r"given by segcore-plugin-mirror 1.0, is not what"):
            segcore.create_encoder(wrong, weights="imagenet")
        answer["path"] = Path("/nowhere.safetensors")
        with pytest.raises(WeightsError, match="there is no such file"):
            segcore.create_encoder(spec, weights="imagenet")
        answer["path"] = None
        monkeypatch.setenv("SEGCORE_OFFLINE", "1")
        with pytest.raises(WeightsError, match="not on this machine.*pass its path"):
            segcore.create_encoder(spec, weights="imagenet")

    def test_a_mirror_that_raises_is_named(self, published, monkeypatch):
        def broken(**_):
            raise OSError("disk")

        plugin = segcore.Plugin("mirror", "mirror", "segcore-plugin-mirror", "1.0")
        monkeypatch.setattr(weights.catalogue, "implementations", lambda hook: [(plugin, broken)])
        spec = EncoderSpec("tiny", factory=TinyEncoder, weights={"imagenet": record(published[1])})
        with pytest.raises(PluginError, match="segcore-plugin-mirror") as caught:
            segcore.create_encoder(spec, weights="imagenet")
        assert caught.value.phase == "hook"


def test_the_config_says_where_weights_came_from(published):
    model = segcore.create_model("unet", EncoderSpec("tiny", factory=TinyEncoder), encoder_weights=published[1])
    assert model.config["encoder"]["weights"] == {"tag": None, "source": "tiny.safetensors", "license": None}
