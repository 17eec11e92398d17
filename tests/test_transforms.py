import numpy as np
import pytest
import torch

import segcore
from segcore import EncoderSpec, InputError, OptionValueError, Preprocessing, Weights, WeightsError
from segcore.testing import TinyDecoder, TinyEncoder

IMAGENET = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def weights(**changes):
    facts = {"url": "https://x.org/a.safetensors", "license": "MIT", "source": "x", "sha256": "0" * 64}
    return Weights(**(facts | {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)} | changes))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_equals_smp_on_ordinary_images(dtype):
    from segmentation_models_pytorch.encoders._preprocessing import preprocess_input

    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    image = image if dtype == np.uint8 else (image / 255).astype(dtype)
    for space, scale in (("RGB", (0, 1)), ("BGR", (0, 1)), ("RGB", (0, 255))):
        mean, std = [0.4 * scale[1], 0.5 * scale[1], 0.6 * scale[1]], [0.2, 0.3, 0.4]
        ours = Preprocessing(tuple(mean), tuple(std), scale, space)(image)
        given = image if scale[1] == 1 else (image if dtype == np.uint8 else image * 255)
        theirs = preprocess_input(given, mean=mean, std=std, input_space=space, input_range=list(scale))
        np.testing.assert_allclose(ours.permute(1, 2, 0).numpy(), theirs, rtol=1e-4, atol=1e-4)


def test_a_nearly_black_image_stays_nearly_black():
    dark = torch.ones(1, 3, 2, 2, dtype=torch.uint8)
    torch.testing.assert_close(IMAGENET(dark), IMAGENET(torch.full((1, 3, 2, 2), 1 / 255)))
    sixteen = np.full((2, 2, 3), 257, np.uint16)
    torch.testing.assert_close(IMAGENET(sixteen), IMAGENET(dark)[0])


def test_shapes_and_the_input_left_alone():
    image = torch.rand(2, 3, 4, 5)
    before = image.clone()
    assert IMAGENET(image).shape == (2, 3, 4, 5)
    assert torch.equal(image, before)
    assert IMAGENET(image[0]).shape == (3, 4, 5)
    assert IMAGENET(np.zeros((4, 5, 3), np.uint8)).shape == (3, 4, 5)
    assert IMAGENET(np.zeros((2, 4, 5, 3), np.uint8)[:, ::-1]).shape == (2, 3, 4, 5)
    grey = IMAGENET.for_channels(1)
    assert grey(np.zeros((4, 5), np.uint8)).shape == (1, 4, 5)
    assert grey.mean == pytest.approx((0.449,), abs=1e-3)
    assert len(IMAGENET.for_channels(5).mean) == 5
    read_only = np.zeros((4, 5, 3), np.uint8)
    read_only.flags.writeable = False
    assert IMAGENET(read_only).shape == (3, 4, 5)


@pytest.mark.parametrize(
    "wrong",
    [
        torch.zeros(1, 4, 2, 2),
        torch.zeros(3),
        np.zeros((2, 2)),
        torch.zeros(1, 3, 2, 2, dtype=torch.int32),
        "x",
        np.array(["a"]),
    ],
)
def test_wrong_images(wrong):
    with pytest.raises(InputError):
        IMAGENET(wrong)


@pytest.mark.parametrize("wrong", [((), ()), ((1.0,), (1.0, 1.0)), ((1.0,), (0.0,))])
def test_wrong_facts(wrong):
    with pytest.raises(OptionValueError):
        Preprocessing(*wrong)
    with pytest.raises(OptionValueError):
        Preprocessing((1.0,), (1.0,), input_space="HSV")
    for data in ({}, {"mean": 3}, IMAGENET.as_dict() | {"input_range": "x"}, IMAGENET.as_dict() | {"more": 1}):
        with pytest.raises(OptionValueError):
            Preprocessing.from_dict(data)


def test_of_a_record_and_of_a_name():
    one = EncoderSpec("x", factory=TinyEncoder, weights={"a": weights(), "b": weights()})
    assert segcore.preprocessing(one) == IMAGENET
    two = EncoderSpec("x", factory=TinyEncoder, weights={"a": weights(), "b": weights(mean=(0.5,) * 3)})
    assert segcore.preprocessing(two, "b").mean == (0.5,) * 3
    with pytest.raises(WeightsError, match="several published weights: say which, of a, b"):
        segcore.preprocessing(two)
    with pytest.raises(WeightsError, match="has no weights 'c'"):
        segcore.preprocessing(two, "c")
    with pytest.raises(WeightsError, match="no published weights"):
        segcore.preprocessing(EncoderSpec("x", factory=TinyEncoder))
    assert segcore.preprocessing("resnet34", "imagenet") == IMAGENET


def test_travels_in_the_checkpoint(tmp_path, monkeypatch):
    from safetensors.torch import save_file

    save_file(TinyEncoder().state_dict(), tmp_path / "a.safetensors")
    monkeypatch.setattr("segcore.weights.open_weights", lambda spec, tag: tmp_path / "a.safetensors")
    segcore.encoders["x"] = EncoderSpec("x", factory=TinyEncoder, weights={"a": weights()})
    segcore.decoders["d"] = TinyDecoder
    model = segcore.create_model("d", "x", encoder_weights="a", in_channels=1)
    assert segcore.preprocessing(model) == IMAGENET.for_channels(1)
    model.save_pretrained(tmp_path / "c", class_names=["coin"])
    loaded = segcore.from_pretrained(tmp_path / "c")
    assert segcore.preprocessing(loaded) == IMAGENET.for_channels(1)
    assert loaded.config["class_names"] == ["coin"]
    assert "license: mit" in (tmp_path / "c" / "README.md").read_text()
    fresh = segcore.create_model("d", "x")
    with pytest.raises(WeightsError, match="no preprocessing"):
        segcore.preprocessing(fresh)
    fresh.save_pretrained(tmp_path / "d", preprocessing=IMAGENET)
    assert segcore.preprocessing(segcore.from_pretrained(tmp_path / "d")) == IMAGENET
    assert "license:" not in (tmp_path / "d" / "README.md").read_text()
    (tmp_path / "d" / "README.md").write_text("mine")
    fresh.save_pretrained(tmp_path / "d")
    assert (tmp_path / "d" / "README.md").read_text() == "mine"
    del segcore.encoders["x"], segcore.decoders["d"]
