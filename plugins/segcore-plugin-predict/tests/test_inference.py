"""`predict` and `predict_tiled` on images in memory."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from segcore_plugin_predict import predict, predict_tiled
from segcore_plugin_predict.inference import tile_lengths
from segcore_plugin_predict.network import largest
from torch import nn

import segcore
from segcore import IncompatiblePartsError, InputError, OptionValueError, Preprocessing, WeightsError
from segcore.testing import TinyDecoder, TinyEncoder

HALF = Preprocessing((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def pointwise(x):
    """Five classes that depend on nothing but the pixel."""
    return torch.cat([x, -x[:, :1] * 2, x[:, 1:2] - x[:, :1]], dim=1)


def tiny(classes=3, depth=2, prepared=True, **options):
    torch.manual_seed(0)
    model = segcore.create_model(TinyDecoder, TinyEncoder, encoder_depth=depth, classes=classes, **options)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
    if prepared:
        model.config["preprocessing"] = HALF.as_dict()
    return model.eval()


@pytest.fixture
def image():
    return torch.randn(3, 150, 211, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def photograph():
    return np.random.default_rng(0).integers(0, 256, (61, 83, 3), np.uint8)


class TestTiles:
    @pytest.mark.parametrize("blend", ["gaussian", "linear", "crop"])
    @pytest.mark.parametrize(
        ("tile", "overlap"), [(64, 16), (64, 50), (64, 0), (100, 99), (512, 64), ((40, 96), (30, 9))]
    )
    @pytest.mark.parametrize("batch", [1, 3])
    def test_a_model_that_sees_one_pixel_gives_what_it_gives_for_the_whole(self, image, blend, tile, overlap, batch):
        whole = pointwise(image[None])[0]
        options = {"blend": blend, "batch": batch, "preprocessing": None}
        if (tile, overlap) == (100, 99):
            image, whole = image[:, :104, :103], whole[:, :104, :103]
        logits = predict_tiled(pointwise, image, tile, overlap, output="logits", **options)
        torch.testing.assert_close(logits, whole, rtol=1e-5, atol=1e-5)
        probabilities = predict_tiled(pointwise, image, tile, overlap, output="probabilities", **options)
        torch.testing.assert_close(probabilities, whole.softmax(0), rtol=1e-5, atol=1e-5)
        labels = predict_tiled(pointwise, image, tile, overlap, **options)
        assert labels.dtype == torch.uint8
        clear = whole.topk(2, dim=0).values.diff(dim=0).abs()[0] > 1e-4  # rounding may decide between equal scores
        assert torch.equal(labels[clear].long(), whole.argmax(0)[clear])

    def test_crops_equal_the_whole_image_if_half_the_overlap_is_what_the_network_sees(self, image):
        image = image[:, :140, :186]  # with 2 pixels of overlap tiles fit exactly, so they do not overlap more
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 2, 3, padding=1))  # 3 pixels
        whole = predict(network, image, output="logits", preprocessing=None)
        cut = predict_tiled(network, image, 48, 6, blend="crop", output="logits", preprocessing=None)
        torch.testing.assert_close(cut, whole, rtol=1e-5, atol=1e-6)
        narrow = predict_tiled(network, image, 48, 2, blend="crop", output="logits", preprocessing=None)
        assert (narrow - whole).abs().max() > 1e-3

    def test_tiles_of_a_strided_network_start_where_the_whole_image_is_sampled(self):
        model = tiny(depth=3)
        image = torch.randn(3, 160, 224)
        whole = predict(model, image, output="logits", preprocessing=None)
        tiles = {"tile": 96, "overlap": 70, "blend": "crop", "output": "logits", "preprocessing": None}
        torch.testing.assert_close(predict_tiled(model, image, **tiles), whole, rtol=1e-4, atol=1e-5)
        elsewhere = predict_tiled(model, image, same_size=True, **tiles)  # starts at 21, 42, ...
        assert (elsewhere - whole).abs().max() > 1e-3

    def test_seams_are_smaller_the_better_tiles_meet(self):
        """The largest jump between neighbouring pixels that the whole image does not have."""
        network = nn.Conv2d(3, 1, 31, padding=15)
        nn.init.zeros_(network.weight)
        nn.init.constant_(network.weight[:, :, :16, :16], 1 / (3 * 16 * 16))  # looks up and left: borders err unevenly

        def of(overlap, blend):
            size = 128 + 2 * (128 - overlap)  # three tiles fit exactly
            image = 1 + 0.1 * torch.randn(3, size, size, generator=torch.Generator().manual_seed(0))
            options = {"output": "logits", "preprocessing": None}
            error = predict_tiled(network, image, 128, overlap, blend=blend, **options) - predict(
                network, image, **options
            )
            return max(error.diff(dim=axis).abs().max().item() for axis in (1, 2))

        none, cut, linear, gaussian = of(0, "crop"), of(16, "crop"), of(16, "linear"), of(16, "gaussian")
        assert none > 0.9
        assert cut < 0.6 * none
        assert linear < 0.2 * cut
        assert gaussian < 0.2 * cut
        assert of(32, "crop") < 1e-5

    def test_an_image_smaller_than_a_tile_is_predicted_as_it_is(self, photograph):
        model = tiny()
        assert torch.equal(predict_tiled(model, photograph, 512), predict(model, photograph))
        assert predict(model, photograph[:1, :1]).shape == (1, 1)

    def test_tiles_of_one_size_for_programs_that_know_no_other(self, photograph):
        shapes = set()

        def fixed(x):
            shapes.add(tuple(x.shape[2:]))
            return pointwise(x)

        for part in (photograph, photograph[:20, :30], photograph[:, :40]):
            logits = predict_tiled(fixed, part, 48, 8, same_size=True, preprocessing=HALF, output="logits")
            torch.testing.assert_close(logits, predict(pointwise, part, preprocessing=HALF, output="logits"))
        assert shapes == {(48, 48)}

    def test_the_default_tile_is_the_size_of_training_or_else_512(self):
        model = tiny(depth=3)
        seen = []
        model.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[2:])))

        def of(**options):
            seen.clear()
            predict_tiled(model, torch.zeros(3, 600, 700), preprocessing=None, **options)
            return set(seen)

        assert max(of()) == (512, 512)
        model.config["image_size"] = [128, 256]
        assert max(of()) == (128, 256)
        model.config["image_size"] = [4, 300]
        assert max(of()) == (8, 300), "at least the stride"
        model.config["image_size"] = [65536, 65536]
        assert tile_lengths("recorded", model, 8) == (4096, 4096), "a checkpoint cannot ask for all memory"
        assert of(tile=None) == {(600, 700)}
        assert max(of(tile=64)) == (64, 64)

    @pytest.mark.parametrize("tile", ["whole", 1.5, (1, 2, 3)])
    def test_what_is_no_size_of_a_tile(self, image, tile):
        with pytest.raises(OptionValueError, match="tile="):
            predict_tiled(pointwise, image, tile, preprocessing=None)

    def test_a_result_in_a_tensor_that_was_there(self, image):
        out = torch.empty(150, 211, dtype=torch.uint8)
        assert predict_tiled(pointwise, image, 64, 8, preprocessing=None, out=out) is out
        assert torch.equal(out, predict_tiled(pointwise, image, 64, 8, preprocessing=None))
        with pytest.raises(InputError, match=r"shape \(150, 211\) and torch.uint8"):
            predict_tiled(pointwise, image, 64, 8, preprocessing=None, out=out.float())

    def test_an_image_mapped_from_a_file(self, photograph, tmp_path):
        np.save(tmp_path / "image.npy", photograph)
        mapped = np.load(tmp_path / "image.npy", mmap_mode="r")
        model = tiny()
        assert torch.equal(predict_tiled(model, mapped, 32, 8), predict_tiled(model, photograph, 32, 8))

    def test_a_model_that_returns_its_own_tensor_is_not_written_to(self, image):
        own = torch.randn(1, 2, 150, 211)
        before = own.clone()
        first = predict(lambda x: own, image, output="logits", flips="h", preprocessing=None)
        assert torch.equal(own, before)
        assert torch.allclose(first, (own + own.flip(-1))[0] / 2)
        whole = image.clone()
        result = predict_tiled(lambda x: x, image, 64, 32, output="logits", preprocessing=None)
        torch.testing.assert_close(result, image)
        assert torch.equal(image, whole)

    @pytest.mark.parametrize("batch", [0, 1.5])
    def test_a_batch_is_a_number(self, image, batch):
        with pytest.raises(OptionValueError, match="batch="):
            predict_tiled(pointwise, image, batch=batch, preprocessing=None)


class TestMonai:
    """The same tiles and weights give the same numbers as MONAI's sliding windows.

    The weights are handed to it, because its own are a Gaussian that is cut off below 0.001.
    """

    @pytest.fixture
    def sliding_window_inference(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from monai.inferers import sliding_window_inference
        return sliding_window_inference

    def test_logits_and_labels(self, sliding_window_inference):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 8, 9, padding=4), nn.ReLU(), nn.Conv2d(8, 4, 9, padding=4))
        image = torch.randn(3, 64 + 3 * 48, 64 + 2 * 48)  # both place tiles alike where they fit exactly
        window = torch.exp(-0.5 * ((torch.arange(64) - 31.5) / 8) ** 2)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            weights = (window[:, None] * window)[None, None]
            theirs = sliding_window_inference(image[None], 64, 1, network, overlap=0.25, roi_weight_map=weights)[0]
        ours = predict_tiled(network, image, 64, 16, output="logits", preprocessing=None)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
        assert (predict_tiled(network, image, 64, 16, preprocessing=None) == theirs.argmax(0)).float().mean() > 0.999


class TestOutputs:
    @pytest.mark.parametrize("classes", [2, 5, 256, 300])
    def test_the_largest_score(self, classes):
        scores = torch.randn(classes, 70, 53).round()  # with ties
        out = torch.empty(70, 53, dtype=torch.uint8 if classes <= 256 else torch.int32)
        largest(scores, out)
        first = (scores == scores.max(0).values).int().argmax(0)
        assert (
            torch.equal(out.long(), first)
            if classes <= 256
            else torch.equal(scores.gather(0, out.long()[None])[0], scores.max(0).values)
        )
        wide = torch.randn(4, 3, 2**16)
        out = torch.empty(3, 2**16, dtype=torch.uint8)
        largest(wide, out)
        assert torch.equal(out.long(), wide.argmax(0))

    def test_more_than_256_classes_have_wider_labels(self):
        labels = predict(lambda x: x.expand(1, 300, 4, 4), torch.randn(1, 4, 4), preprocessing=None)
        assert labels.dtype == torch.int32

    def test_one_class_and_its_threshold(self, photograph):
        model = tiny(classes=1)
        probabilities = predict(model, photograph, output="probabilities")
        assert probabilities.shape == (1, 61, 83)
        torch.testing.assert_close(probabilities, predict(model, photograph, output="logits").sigmoid())
        level = probabilities.median().item()
        labels = predict(model, photograph, threshold=level)
        assert labels.shape == (61, 83)
        clear = (probabilities[0] - level).abs() > 1e-5
        assert torch.equal(labels[clear], (probabilities[0] > level).to(torch.uint8)[clear])
        assert 0 < labels.float().mean() < 1

    def test_several_labels(self, photograph):
        model = tiny()
        labels = predict(model, photograph, multilabel=True, threshold=0.45)
        expected = predict(model, photograph, output="logits").sigmoid() > 0.45
        assert torch.equal(labels, expected.to(torch.uint8))
        sigmoid = tiny(activation="sigmoid")
        assert torch.equal(predict(sigmoid, photograph, threshold=0.45), labels)
        assert torch.equal(predict(sigmoid, photograph, multilabel=False), predict(model, photograph))

    def test_a_model_that_gives_probabilities(self, photograph):
        softmax, logits = tiny(activation="softmax"), tiny()
        for output in ("labels", "probabilities"):
            torch.testing.assert_close(
                predict(softmax, photograph, output=output), predict(logits, photograph, output=output)
            )
        with pytest.raises(OptionValueError, match="activation=None"):
            predict(softmax, photograph, output="logits")
        with pytest.raises(OptionValueError, match="'argmax' itself"):
            predict(tiny(activation="argmax"), photograph)

    @pytest.mark.parametrize(
        ("options", "message"),
        [({"output": "mask"}, "'labels'"), ({"threshold": 0}, "between 0 and 1"), ({"flips": "x"}, "'hv'"), ({"preprocessing": "no"}, "'recorded'")],
    )  # fmt: skip
    def test_unknown_options(self, photograph, options, message):
        with pytest.raises((OptionValueError, InputError), match=message):
            predict(tiny(), photograph, **options)

    def test_the_first_of_mask_and_label(self, photograph):
        model = tiny(aux_params={"classes": 2})
        assert predict(model, photograph).shape == (61, 83)

    @pytest.mark.parametrize(
        "wrong", [lambda x: {"mask": x}, lambda x: x[..., ::2], lambda x: x[0], lambda x: x[:0], lambda x: ()]
    )
    def test_what_is_no_mask_of_the_image_is_refused(self, image, wrong):
        with pytest.raises(IncompatiblePartsError, match="one mask"):
            predict(wrong, image, preprocessing=None)


class TestImages:
    def test_every_kind_of_image_gives_the_same(self, photograph, tmp_path):
        model = tiny()
        expected = predict(model, photograph, output="logits")
        Image.fromarray(photograph).save(tmp_path / "a.png")
        tensor = torch.from_numpy(photograph).permute(2, 0, 1)
        same = [
            Image.fromarray(photograph), str(tmp_path / "a.png"), tmp_path / "a.png", tensor, tensor[None],
            tensor.float() / 255, photograph / np.float32(255), photograph.astype(np.uint16) * 257, photograph / 255,
        ]  # fmt: skip
        for image in same:
            torch.testing.assert_close(predict(model, image, output="logits"), expected, rtol=1e-5, atol=1e-5)
        direct = model.predict(HALF(photograph)[None])[0]
        torch.testing.assert_close(expected, direct)

    def test_numbers_in_another_order_of_bytes(self, photograph):
        model = tiny()
        swapped = (photograph.astype(np.uint16) * 257).astype(">u2")
        torch.testing.assert_close(
            predict(model, swapped, output="logits"), predict(model, photograph, output="logits")
        )

    def test_a_grey_picture_for_a_model_of_three_channels(self):
        grey = Image.new("L", (20, 30), 77)
        assert predict(tiny(), grey).shape == (30, 20)
        with pytest.raises(InputError, match="3 channels"):
            predict(tiny(), np.asarray(grey))  # an array is taken as it is

    @pytest.mark.parametrize(
        ("image", "message"),
        [
            (torch.zeros(2, 3, 8, 8), "each image of a batch"),
            (np.zeros((0, 8, 3), np.uint8), "got the shape"),
            (np.zeros((8, 8, 3), np.int64), "uint8, uint16"),
            ([1, 2], "got list"),
            ("absent.png", "absent.png: there is no such file"),
        ],
    )
    def test_what_is_no_image(self, image, message):
        with pytest.raises(InputError, match=message):
            predict(tiny(), image)

    def test_a_prepared_image_is_a_tensor(self, photograph):
        with pytest.raises(InputError, match="prepared already"):
            predict(tiny(), photograph, preprocessing=None)

    def test_preprocessing_is_never_guessed(self, photograph):
        with pytest.raises(InputError, match="does not say how images are prepared"):
            predict(pointwise, photograph)
        with pytest.raises(WeightsError, match="no preprocessing"):
            predict(tiny(prepared=False), photograph)
        assert predict(pointwise, photograph, preprocessing=HALF).shape == (61, 83)


class TestFlips:
    def test_the_average_is_as_symmetric_as_it_is_asked_for(self, photograph):
        model = tiny()
        for flips, axis in (("h", 1), ("v", 0), ("hv", 0), ("hv", 1)):
            mirrored = np.flip(photograph, axis).copy()
            a = predict(model, photograph, output="logits", flips=flips)
            b = predict(model, mirrored, output="logits", flips=flips).flip(axis + 1)
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
            plain = predict(model, photograph, output="logits")
            assert (plain - a).abs().max() > 1e-3
            assert (plain - predict(model, mirrored, output="logits").flip(axis + 1)).abs().max() > 1e-3

    def test_it_is_the_mean_of_the_scores(self, photograph):
        model = tiny()
        parts = [predict(model, np.flip(photograph, axes).copy(), output="logits").flip([a + 1 for a in axes])
                 for axes in ((), (0,), (1,), (0, 1))]  # fmt: skip
        mean = torch.stack(parts).mean(0)
        torch.testing.assert_close(predict(model, photograph, output="logits", flips="hv"), mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            predict_tiled(model, photograph, 100, flips="hv", output="logits"), mean, rtol=1e-4, atol=1e-5
        )


class TestManners:
    def test_the_model_and_the_image_are_left_as_they_were(self, photograph):
        model = tiny().train()
        model.encoder.first.eval()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        modes = [module.training for module in model.modules()]
        kept, state = photograph.copy(), torch.random.get_rng_state()
        predict_tiled(model, photograph, 32, 8)
        with pytest.raises(InputError):
            predict(model, photograph[..., :2])
        assert [module.training for module in model.modules()] == modes
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert np.array_equal(photograph, kept)
        assert torch.equal(torch.random.get_rng_state(), state)

    def test_results_do_not_depend_on_the_training_mode(self, photograph):
        model = tiny()
        expected = predict(model, photograph, output="logits")
        assert torch.equal(predict(model.train(), photograph, output="logits"), expected)

    def test_a_model_of_lower_precision_gets_what_it_needs(self, photograph):
        expected = predict(tiny(), photograph, output="logits")
        low = predict_tiled(tiny().to(torch.bfloat16), photograph, 512, output="logits")
        assert low.dtype == torch.float32
        torch.testing.assert_close(low, expected, rtol=0.1, atol=0.1)

    def test_padding_that_a_model_needs_is_its_own_business(self, photograph):
        model = tiny()
        model.encoder._size_multiple = 16
        assert predict(model, photograph).shape == (61, 83)
        assert predict_tiled(model, photograph, 32, 8).shape == (61, 83)


MEMORY = """
import numpy as np, torch
from pathlib import Path
from segcore import Preprocessing
from segcore_plugin_predict import predict_tiled

def status(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024

model = torch.nn.Conv2d(3, 16, 1)
half = Preprocessing((0.5,) * 3, (0.25,) * 3)

def peak(height, output):
    image = np.broadcast_to(np.uint8(7), (height, 700, 3))  # takes no memory itself
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    result = predict_tiled(model, image, 256, 32, preprocessing=half, output=output)
    return status("VmHWM") - before - result.numel() * result.element_size() / 2**20

peak(1000, "labels"), peak(1000, "logits")
print(peak(1000, "labels"), peak(10000, "labels"), peak(6000, "logits"))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads the peak from Linux")
def test_memory_beside_the_result_does_not_grow_with_the_height():
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": str(2**18)}
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True, env=environment)
    low, high, logits = map(float, done.stdout.split())
    assert low < 40
    assert high < low + 4, "MB; the full map of floats would be 427"
    assert logits < 32, "MB beside a result of 256"


def test_the_package_is_light_until_it_is_used():
    code = (
        "import sys, segcore_plugin_predict as p\n"
        "assert not {'torch', 'PIL', 'numpy', 'rich', 'click'} & set(sys.modules)\n"
        "from segcore_plugin_predict import predict, predict_tiled, read_image\n"
        "assert predict.__module__.startswith('segcore_plugin_predict') and 'rich' not in sys.modules\n"
        "try: p.absent\n"
        "except AttributeError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "no attribute 'absent'" in done.stdout
