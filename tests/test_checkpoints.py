import contextlib
import copy
import gc
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import segcore
from segcore import CheckpointError, EncoderSpec, UnknownNameError, checkpoints
from segcore.testing import TinyDecoder, TinyEncoder


@pytest.fixture
def tiny():
    segcore.encoders["tiny"] = EncoderSpec("tiny", factory=TinyEncoder, output_strides=(8, 16, 32))
    segcore.decoders["tinydec"] = TinyDecoder
    yield
    del segcore.encoders["tiny"]
    del segcore.decoders["tinydec"]


@pytest.fixture
def saved(tiny, tmp_path):
    model = segcore.create_model("tinydec", "tiny", classes=3, encoder_depth=4, encoder_strides=(1, 2, 4, 8, 16, 32))
    for value in model.buffers():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5)
    return model.eval(), model.save_pretrained(tmp_path / "checkpoint")


def rewrite(folder, change):
    """Write the checkpoint again with a changed config or changed tensors."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    config = json.loads((folder / "config.json").read_text())
    result = change(config, tensors)
    config = config if result is None else result
    text = config if isinstance(config, str) else json.dumps(config)
    save_file(tensors, path, metadata={"segcore_config": text})
    (folder / "config.json").write_text(text)


def test_round_trip(saved):
    model, folder = saved
    loaded = segcore.from_pretrained(folder)
    x = torch.rand(2, 3, 40, 50)
    assert torch.equal(loaded(x), model(x))
    assert loaded.config == model.config
    assert not loaded.training
    assert sorted(file.name for file in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    for (name, one), two in zip(model.state_dict().items(), loaded.state_dict().values(), strict=True):
        assert one.dtype == two.dtype, name
        assert torch.equal(one, two), name
    assert all(value.requires_grad for value in loaded.parameters())


def test_a_loaded_model_trains_and_leaves_the_file_alone(saved):
    _, folder = saved
    before = (folder / "model.safetensors").read_bytes()
    loaded = segcore.from_pretrained(folder).train()
    loaded(torch.rand(2, 3, 32, 32)).sum().backward()
    torch.optim.SGD(loaded.parameters(), 0.1).step()
    assert (folder / "model.safetensors").read_bytes() == before
    loaded.save_pretrained(folder)  # over the file that it is mapped from
    again = segcore.from_pretrained(folder)
    assert torch.equal(again.encoder.first.weight, loaded.encoder.first.weight)


@pytest.mark.parametrize("decoder", ["unet", "fpn"])
def test_installed_parts_are_named_with_distribution_and_version(decoder, tmp_path):
    model = segcore.create_model(decoder, "resnet18", classes=2, activation="sigmoid", aux_params={"classes": 3}).eval()
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["encoder"]["name"] == "resnet/resnet18"
    assert config["encoder"]["distribution"] == "segcore-plugin-resnet"
    assert config["segcore"] == segcore.__version__
    loaded, x = segcore.from_pretrained(tmp_path), torch.rand(1, 3, 33, 50)
    for one, two in zip(loaded(x), model(x), strict=True):
        assert torch.equal(one, two)


def test_buffers_that_no_file_holds_are_computed(tiny, tmp_path):
    class Positions(TinyEncoder):
        def __init__(self, depth=5, in_channels=3):
            super().__init__(depth, in_channels)
            self.register_buffer("ramp", torch.arange(4.0), persistent=False)

        def forward(self, x):
            return [feature + self.ramp.sum() for feature in super().forward(x)]

    segcore.encoders["positions"] = Positions
    model = segcore.create_model("tinydec", "positions").eval()
    model.save_pretrained(tmp_path)
    loaded, x = segcore.from_pretrained(tmp_path), torch.rand(1, 3, 32, 32)
    assert torch.equal(loaded(x), model(x))
    del segcore.encoders["positions"]


def test_loading_draws_no_random_numbers(saved):
    _, folder = saved
    state = torch.get_rng_state()
    segcore.from_pretrained(folder)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("damaged", [False, True])
def test_garbage_is_not_collected_while_loading(saved, enabled, damaged, monkeypatch):
    seen = []
    real = checkpoints._open
    monkeypatch.setattr(checkpoints, "_open", lambda path: (seen.append(gc.isenabled()), real(path))[1])
    if damaged:
        (saved[1] / "model.safetensors").write_bytes(b"damaged")
    (gc.enable if enabled else gc.disable)()
    try:
        with pytest.raises(CheckpointError) if damaged else contextlib.nullcontext():
            segcore.from_pretrained(saved[1])
        after = gc.isenabled()
    finally:
        gc.enable()
    assert (seen, after) == ([False], enabled)


def test_half_precision_checkpoints_stay_half(saved, tmp_path):
    model = copy.deepcopy(saved[0]).half()
    model.save_pretrained(tmp_path)
    assert segcore.from_pretrained(tmp_path).encoder.first.weight.dtype == torch.float16


def test_other_files_and_an_older_checkpoint_in_the_folder(saved):
    model, folder = saved
    (folder / "notes.txt").write_text("mine")
    model.save_pretrained(folder)
    assert (folder / "notes.txt").read_text() == "mine"


class TestRefusedAtSave:
    def test_by_hand(self, tmp_path):
        encoder = TinyEncoder()
        decoder = TinyDecoder(encoder.feature_info)
        model = segcore.SegmentationModel(encoder, decoder, decoder.default_head(1))
        with pytest.raises(CheckpointError, match="assembled by hand"):
            model.save_pretrained(tmp_path)
        model.config = {"encoder_name": "resnet34"}
        with pytest.raises(CheckpointError, match="config is of another library"):
            model.save_pretrained(tmp_path)

    def test_a_part_without_a_name(self, tiny, tmp_path):
        with pytest.raises(CheckpointError, match=r"segcore.encoders\['name'\]"):
            segcore.create_model("tinydec", TinyEncoder()).save_pretrained(tmp_path)

    @pytest.mark.parametrize(
        "where", [{"activation": nn.Sigmoid}, {"aux_params": {"classes": 2, "activation": torch.tanh}}]
    )
    def test_callables(self, tiny, tmp_path, where):
        with pytest.raises(CheckpointError, match="cannot be saved"):
            segcore.create_model("tinydec", "tiny", **where).save_pretrained(tmp_path)

    def test_a_changed_structure(self, saved, tmp_path):
        model = copy.deepcopy(saved[0])
        model.segmentation_head[0] = nn.Conv2d(8, 7, 1)
        with pytest.raises(CheckpointError, match="no longer has the structure"):
            model.save_pretrained(tmp_path / "new")
        assert not (tmp_path / "new").exists()


CONFIGS = {
    "no object": lambda c, t: "[]",
    "no JSON": lambda c, t: "{",
    "deep": lambda c, t: "[" * 5000,
    "newer": lambda c, t: c | {"format": 99},
    "no format": lambda c, t: {k: v for k, v in c.items() if k != "format"},
    "format a bool": lambda c, t: c | {"format": True},
    "no activation": lambda c, t: {k: v for k, v in c.items() if k != "activation"},
    "unknown field": lambda c, t: c | {"extra": 1},
    "a billion classes": lambda c, t: c | {"classes": 10**9},
    "negative classes": lambda c, t: c | {"classes": -1},
    "classes a text": lambda c, t: c | {"classes": "3"},
    "a million channels": lambda c, t: c | {"in_channels": 10**6},
    "no encoder": lambda c, t: {k: v for k, v in c.items() if k != "encoder"},
    "encoder a list": lambda c, t: c | {"encoder": []},
    "encoder without options": lambda c, t: c | {"encoder": {"name": "tiny"}},
    "encoder with a key too many": lambda c, t: c | {"encoder": c["encoder"] | {"url": "x"}},
    "name a number": lambda c, t: c | {"encoder": c["encoder"] | {"name": 3}},
    "depth 99": lambda c, t: c | {"encoder": c["encoder"] | {"options": {"depth": 99}}},
    "unknown option": lambda c, t: c | {"encoder": c["encoder"] | {"options": {"file": "/etc/passwd"}}},
    "option of a wrong type": lambda c, t: c | {"encoder": c["encoder"] | {"options": {"width": "wide"}}},
    "huge width": lambda c, t: c | {"encoder": c["encoder"] | {"options": {"width": 10**12}}},
    "activation unknown": lambda c, t: c | {"activation": "no"},
    "activation a number": lambda c, t: c | {"activation": 3},
    "image size a number": lambda c, t: c | {"image_size": 256},
    "image size a text": lambda c, t: c | {"image_size": "256"},
    "image size of one side": lambda c, t: c | {"image_size": [256]},
    "image size of three sides": lambda c, t: c | {"image_size": [256, 256, 3]},
    "image size a million": lambda c, t: c | {"image_size": [2**20, 256]},
    "image size zero": lambda c, t: c | {"image_size": [256, 0]},
    "image size negative": lambda c, t: c | {"image_size": [-1, 256]},
    "image size a bool": lambda c, t: c | {"image_size": [True, 256]},
    "image size a fraction": lambda c, t: c | {"image_size": [256.0, 256]},
    "image size of nulls": lambda c, t: c | {"image_size": [None, None]},
    "image size nested and long": lambda c, t: c | {"image_size": [[1] * 1000] * 1000},
    "aux a list": lambda c, t: c | {"aux_params": []},
    "aux unknown": lambda c, t: c | {"aux_params": {"classes": 2, "pool": "x"}},
    "other depth": lambda c, t: c | {"encoder": c["encoder"] | {"options": {"depth": 3}}},
    "missing tensor": lambda c, t: t.__delitem__("encoder.first.weight"),
    "other shape": lambda c, t: t.update({"encoder.first.weight": torch.zeros(1)}),
    "integers": lambda c, t: t.update({"encoder.first.bias": torch.zeros(8, dtype=torch.int32)}),
    "tensor too many": lambda c, t: t.update({"encoder.more": torch.zeros(1)}),
}


@pytest.mark.parametrize("change", CONFIGS.values(), ids=CONFIGS)
def test_hostile_or_damaged_checkpoints_end_in_our_error(saved, change):
    _, folder = saved
    rewrite(folder, change)
    with pytest.raises(CheckpointError) as caught:
        segcore.from_pretrained(folder)
    assert len(str(caught.value)) < 700


def test_the_size_of_the_training_images_is_kept(saved, tmp_path):
    model, folder = saved
    assert model.config["image_size"] is None
    assert "images of unknown size" in (folder / "README.md").read_text()
    model.save_pretrained(folder, image_size=(256, 512))
    loaded = segcore.from_pretrained(folder)
    assert loaded.config["image_size"] == [256, 512]
    assert "images, crops or tiles of 256 x 512 pixels" in (folder / "README.md").read_text()
    again = segcore.from_pretrained(loaded.save_pretrained(tmp_path / "again"))
    assert again.config == loaded.config
    with pytest.warns(UserWarning, match="start from random"):
        assert segcore.from_pretrained(folder, classes=5).config["image_size"] == [256, 512]
    other = segcore.from_pretrained(loaded.save_pretrained(tmp_path / "other", image_size=[64, 65536]))
    assert other.config["image_size"] == [64, 65536]


@pytest.mark.parametrize("size", [256, (256,), (0, 1), (1, 65537), (1.5, 2), (True, True), "ab", (256, None)])
def test_a_size_that_is_none_is_refused_before_anything_is_written(saved, tmp_path, size):
    with pytest.raises(CheckpointError, match="image_size"):
        saved[0].save_pretrained(tmp_path / "new", image_size=size)
    assert not (tmp_path / "new").exists()


def test_a_checkpoint_without_a_size_is_as_before_the_field(saved):
    _, folder = saved
    config = json.loads((folder / "config.json").read_text())
    assert (config["format"], "image_size" in config) == (1, False)
    rewrite(folder, lambda c, t: c | {"image_size": None})
    assert segcore.from_pretrained(folder).config["image_size"] is None


def test_an_unknown_field_says_which_version_wrote_it(saved):
    rewrite(saved[1], lambda c, t: c | {"segcore": "7.1", "shutter": 1})
    with pytest.raises(CheckpointError, match=r"unknown field 'shutter'. It was written by segcore '7.1'.*upgrade"):
        segcore.from_pretrained(saved[1])


def test_a_name_is_never_an_import(saved):
    _, folder = saved
    for name in ("os:system", "../../etc", "tiny\n", "hf://a/b", "/tmp/x", "local/tiny:x"):
        rewrite(folder, lambda c, t, name=name: c | {"encoder": c["encoder"] | {"name": name}})
        with pytest.raises((UnknownNameError, CheckpointError)):
            segcore.from_pretrained(folder)


def test_a_missing_plugin_is_named(saved):
    _, folder = saved
    origin = {"name": "gone/net", "distribution": "segcore-plugin-gone", "version": "1.2"}
    rewrite(folder, lambda c, t: c | {"encoder": c["encoder"] | origin})
    with pytest.raises(UnknownNameError, match="pip install segcore-plugin-gone.*segcore-plugin-gone 1.2"):
        segcore.from_pretrained(folder)


def test_foreign_folders(tmp_path):
    with pytest.raises(CheckpointError, match="no folder"):
        segcore.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="holds no model.safetensors"):
        segcore.from_pretrained(tmp_path)
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="was not written by segcore"):
        segcore.from_pretrained(tmp_path)
    torch.save({"a": 1}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="damaged or no safetensors"):
        segcore.from_pretrained(tmp_path)


def test_the_embedded_config_counts(saved):
    model, folder = saved
    (folder / "config.json").write_text("{}")
    with pytest.warns(UserWarning, match="the one inside counts"):
        assert segcore.from_pretrained(folder).config == model.config
    (folder / "config.json").unlink()
    assert segcore.from_pretrained(folder).config == model.config


def test_observers_see_the_loaded_model(saved, monkeypatch):
    seen = []
    monkeypatch.setattr("segcore.checkpoints.notify", lambda hook, **facts: seen.append((hook, facts)))
    loaded = segcore.from_pretrained(saved[1])
    assert [(hook, facts["model"]) for hook, facts in seen] == [("segcore_model_created", loaded)]
