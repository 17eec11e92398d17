"""Masks in which a pixel may have several classes, from files to a trained model and its report."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file
from segcore_plugin_train import Augmentation, Evaluation, LabelMap, SegmentationData, Settings, train
from segcore_plugin_train.augment import apply, as_transform, seed_all
from segcore_plugin_train.bands import LabelBands
from segcore_plugin_train.evaluate import labels_of
from segcore_plugin_train.log import read_log
from segcore_plugin_train.settings import read_settings

import segcore
from segcore import InputError, OptionValueError, Preprocessing
from segcore.cli import cli

NAMES = ["object", "disc", "bar", "ring"]
RNG = np.random.default_rng(0)


def random_bands(count, size=(6, 8)):
    return RNG.integers(0, 2, (*size, count)).astype(np.uint8)


def write_tiff(path, bands, **options):
    height, width, count = bands.shape
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=count, dtype=bands.dtype.name,
        transform=rasterio.Affine(1, 0, 0, 0, -1, 9), **options,
    ) as file:  # fmt: skip
        file.write(np.moveaxis(bands, -1, 0))
    return path


@pytest.fixture(scope="module")
def overlapping(shapes, tmp_path_factory):
    """The small set with masks of four bands, the first of which holds all objects: as TIFF, and a folder per class."""
    folder = tmp_path_factory.mktemp("bands")
    for path in sorted((shapes / "masks").iterdir()):
        mask = np.asarray(Image.open(path))
        bands = np.stack([mask > 0, mask == 1, mask == 2, mask == 3], axis=2).astype(np.uint8)
        (folder / "tif").mkdir(exist_ok=True)
        write_tiff(folder / "tif" / f"{path.stem}.tif", bands)
        for index, name in enumerate(NAMES):
            (folder / "each" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(bands[..., index] * 255).save(folder / "each" / name / path.name)
    return folder


class TestReading:
    @pytest.mark.parametrize("count", [1, 2, 3, 4])
    @pytest.mark.parametrize("high", [1, 255])
    def test_bands_of_a_png(self, tmp_path, count, high):
        bands = random_bands(count)
        Image.fromarray(np.squeeze(bands * high)).save(tmp_path / "m.png")
        assert np.array_equal(LabelBands(count).read(tmp_path / "m.png"), bands)

    @pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 20])
    @pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
    def test_bands_of_a_tiff(self, tmp_path, count, kind):
        bands = random_bands(count)
        path = write_tiff(tmp_path / "m.tif", bands.astype(kind))
        assert np.array_equal(LabelBands(count).read(path), bands)

    @pytest.mark.parametrize("options", [{"photometric": "RGB", "alpha": "YES"}, {"interleave": "band"}])
    def test_four_bands_of_a_tiff_with_and_without_transparency(self, tmp_path, options):
        bands = random_bands(4)
        assert np.array_equal(LabelBands(4).read(write_tiff(tmp_path / "m.tif", bands, **options)), bands)

    @pytest.mark.parametrize("kind", ["bool", "uint8", "int64", "float64"])
    def test_arrays(self, tmp_path, kind):
        bands = random_bands(5)
        np.save(tmp_path / "m.npy", bands.astype(kind))
        assert np.array_equal(LabelBands(5).read(tmp_path / "m.npy"), bands)
        np.save(tmp_path / "one.npy", bands[..., 0].astype(kind))
        assert np.array_equal(LabelBands(1).read(tmp_path / "one.npy"), bands[..., :1])
        assert np.array_equal(LabelMap(2).read(tmp_path / "one.npy"), bands[..., 0])

    def test_what_does_not_count_is_of_one_class(self):
        labels = LabelBands(2, ignore_label=255)
        assert labels.apply(np.array([[[1, 255], [0, 1]]])).tolist() == [[[1, 255], [0, 1]]]
        assert LabelBands(2, {0: 0, "7": 1, 9: "ignore"}).apply(np.array([[[7, 9]]])).tolist() == [[[1, 255]]]

    @pytest.mark.parametrize(
        ("mask", "text"),
        [
            (random_bands(3), r"a mask of 4 bands is needed.* \(6, 8, 3\)"),
            (random_bands(1)[..., 0], r"a mask of 4 bands is needed.* \(6, 8, 1\)"),
            (np.moveaxis(random_bands(4), -1, 0), r"np\.moveaxis\(mask, 0, -1\)"),
            (random_bands(4) * 2, r"band 1 has 2 \(\d+ pixels\).*--label 2=0, =1 or =ignore"),
            (random_bands(4) * np.array([1, 1, 255, 1], np.uint8), "1 and 255.*--ignore-label 255"),
            (random_bands(4) * 0.5, "fractions"),
            (np.full((6, 8, 4), np.nan), "fractions"),
            (np.full((6, 8, 4), "a"), "numbers are needed"),
        ],
    )
    def test_what_is_no_such_mask_is_told_with_the_file(self, tmp_path, mask, text):
        np.save(tmp_path / "m.npy", mask)
        with pytest.raises(InputError, match=rf"m\.npy: .*{text}"):
            LabelBands(4).read(tmp_path / "m.npy")

    def test_files_that_cannot_be_read(self, tmp_path):
        np.save(tmp_path / "code.npy", np.array([{}]), allow_pickle=True)
        (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY")
        (tmp_path / "text.png").write_text("no image")
        Image.fromarray(random_bands(3)).save(tmp_path / "m.jpg")
        write_tiff(tmp_path / "m.tif", random_bands(3))
        for name, text in (
            ("code.npy", "pickle"), ("cut.npy", "damaged"), ("text.png", "no image"), ("m.jpg", "a JPEG changes"),
            ("none.tif", "no such file"), ("none.png", "no such file"), ("m.tif", "4 bands"),
        ):  # fmt: skip
            with pytest.raises(InputError, match=rf"{re.escape(name)}: .*{text}") as info:
                LabelBands(4).read(tmp_path / name)
            assert str(info.value).count(name) == 1

    def test_one_file_for_each_class(self, tmp_path):
        bands = random_bands(2)
        for index in (0, 1):
            Image.fromarray(bands[..., index].astype(bool)).save(tmp_path / f"{index}.png")
        paths = [tmp_path / "0.png", tmp_path / "1.png"]
        assert np.array_equal(LabelBands(2).read(*paths), bands)
        with pytest.raises(InputError, match="2 masks are given for 3 classes"):
            LabelBands(3).read(*paths)
        Image.fromarray(np.zeros((3, 3), np.uint8)).save(paths[1])
        with pytest.raises(InputError, match=r"1\.png: it has 3 x 3 pixels, and .*0\.png 8 x 6"):
            LabelBands(2).read(*paths)
        Image.fromarray(random_bands(3)).save(paths[1])
        with pytest.raises(InputError, match=r"1\.png: a mask of 1 bands is needed"):
            LabelBands(2).read(*paths)

    @pytest.mark.parametrize(
        "options",
        [{"classes": 0}, {"classes": True}, {"labels": {"#ff0000": 1}}, {"labels": {3: 2}}, {"labels": {3: True}},
         {"labels": {3: 1.0}}],
    )  # fmt: skip
    def test_values_that_make_no_sense(self, options):
        with pytest.raises(OptionValueError):
            LabelBands(**{"classes": 2, **options})

    def test_the_largest_share_is_that_of_a_combination(self):
        mask = np.array([[[0, 1], [1, 0], [1, 0], [1, 0]], [[0, 0], [1, 1], [255, 255], [255, 0]]], np.uint8)
        assert LabelBands(2).largest_share(mask) == 3 / 7
        assert LabelBands(2).largest_share(np.full((2, 2, 2), 255, np.uint8)) == 1
        assert LabelBands(2).count(mask).tolist() == [4, 2]


class TestData:
    def test_batches_have_a_band_for_each_class_and_padding_does_not_count(self, overlapping, shapes):
        data = SegmentationData.from_folders(
            shapes / "images", overlapping / "tif", classes=4, multilabel=True, crop=40, batch_size=3, augment="flips"
        )
        images, labels = next(iter(data.train_dataloader()))
        assert (images.shape, labels.shape) == ((3, 3, 40, 40), (3, 4, 40, 40))
        assert labels[..., :32, :32].unique().tolist() == [0, 1]
        assert labels[..., 32:].unique().tolist() == labels[..., 32:, :].unique().tolist() == [255]
        assert torch.equal(labels[:, 0, :32, :32], labels[:, 1:, :32, :32].amax(1))

    def test_a_folder_for_each_class_is_the_same_as_a_file_of_bands(self, overlapping, shapes):
        options = {"classes": 4, "multilabel": True, "crop": 16, "batch_size": 4}
        both = [
            SegmentationData.from_folders(shapes / "images", overlapping / "tif", **options),
            SegmentationData.from_folders(shapes / "images", overlapping / "each", class_folders=NAMES, **options),
        ]
        for one, two in zip(*(data.train_dataloader() for data in both), strict=True):
            assert torch.equal(one[0], two[0])
            assert torch.equal(one[1], two[1])
        counts = [data.check()["train"].pixels.tolist() for data in both]
        assert counts[0] == counts[1]
        assert counts[0][0] == sum(counts[0][1:]) > 0

    def test_a_mask_of_one_class_that_is_missing_or_of_another_size_is_named(self, shapes, tmp_path):
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            for path in (shapes / "masks").iterdir():
                Image.fromarray(np.zeros((32, 32), np.uint8)).save(tmp_path / name / path.name)
        options = {"classes": 2, "multilabel": True, "class_folders": ["a", "b"]}
        Image.fromarray(np.zeros((5, 4), np.uint8)).save(tmp_path / "b" / "003.png")
        for how in ("full", "sizes"):
            with pytest.raises(InputError, match=r"1 of \d+ pairs cannot be used:\n.*003"):
                SegmentationData.from_folders(shapes / "images", tmp_path, **options).check(how)
        (tmp_path / "b" / "003.png").unlink()
        with pytest.raises(InputError, match=r"1 of 12 images have no mask: .*003\.png.*The first would be .*b.003"):
            SegmentationData.from_folders(shapes / "images", tmp_path, **options)
        for change, text in (
            ({"class_folders": ["a"]}, "1 folders are given for 2 classes"),
            ({"multilabel": False}, "--multilabel"),
            ({"class_folders": ["a", "none"]}, "does not exist"),
        ):
            with pytest.raises(OptionValueError, match=text):
                SegmentationData.from_folders(shapes / "images", tmp_path, **options | change)

    def test_arrays_beside_images_are_checked_by_size(self, shapes, tmp_path):
        for path in (shapes / "images").iterdir():
            np.save(tmp_path / f"{path.stem}.npy", np.zeros((32, 32, 2), bool))
        options = {"classes": 2, "multilabel": True}
        assert set(SegmentationData.from_folders(shapes / "images", tmp_path, **options).check("sizes")) == {
            "train", "val",
        }  # fmt: skip
        np.save(tmp_path / "000.npy", np.zeros((2, 32, 32), bool))
        for how in ("full", "sizes"):
            with pytest.raises(InputError, match=r"1 of \d+ pairs cannot be used:\n.*000"):
                SegmentationData.from_folders(shapes / "images", tmp_path, **options).check(how)

    def test_records(self):
        bands = random_bands(3)
        rows = [
            {"image": np.zeros((6, 8, 3), np.uint8), "mask": bands},
            {"image": np.zeros((6, 8, 3), np.uint8), "mask": Image.fromarray(bands * 255)},
        ]
        data = SegmentationData.from_dataset(
            rows, classes=3, multilabel=True, preprocessing=Preprocessing((0.0,) * 3, (1.0,) * 3)
        )
        for index in (0, 1):
            assert np.array_equal(data.train_source.mask(index, data.reading), bands)
        with pytest.raises(InputError, match=r"record\[0\]: a mask of 4 bands"):
            SegmentationData.from_dataset(rows, classes=4, multilabel=True).check()


class TestAugmentation:
    @pytest.mark.parametrize("transform", ["default", "aerial", "flips"])
    def test_all_bands_move_with_the_image(self, transform):
        mask = np.zeros((60, 80, 2), np.uint8)
        mask[10:40, 10:50, 0], mask[20:55, 30:75, 1] = 1, 1
        mask[50:, :5, 1] = 255
        image = np.concatenate([(mask == 1) * np.uint8(200), np.zeros((60, 80, 1), np.uint8)], axis=2)
        transform, seen = as_transform(transform), set()
        for seed in range(8):
            seed_all(seed, transform)
            new, labels = apply(transform, image, mask)
            bright = new[..., :2] > new[..., :2].max() / 2
            counted = labels != 255
            assert ((labels == 1) == bright)[counted].mean() > 0.97
            assert (labels[..., 1] == 255).any()
            seen.add(labels.tobytes())
        assert len(seen) > 1

    def test_a_transform_of_torchvision(self):
        v2 = pytest.importorskip("torchvision.transforms.v2")
        transform = as_transform(v2.RandomHorizontalFlip(1.0))
        image, mask = np.zeros((6, 8, 3), np.uint8), random_bands(4)
        assert np.array_equal(apply(transform, image, mask)[1], mask[:, ::-1])

    def test_a_transform_that_drops_bands(self):
        with pytest.raises(InputError, match=r"integer labels \(H, W, 4\)"):
            apply(lambda image, mask: {"image": image, "mask": mask[..., 0]}, np.zeros((6, 8, 3)), random_bands(4))

    def test_the_presets_are_transforms_of_numpy(self):
        off = Augmentation(hflip=1.0, scale=(0.5, 0.5), brightness=0, contrast=0, noise=0)
        assert off(image=np.zeros((6, 8, 3), np.uint8), mask=random_bands(4))["mask"].shape == (3, 4, 4)


def words(small, overlapping, out):
    config = out.with_suffix(".toml")
    config.write_text(
        f"""
        images = "{small["images"]}"
        masks = "{overlapping / "tif"}"
        multilabel = true
        classes = 4
        names = {json.dumps(NAMES)}
        encoder = "resnet18"
        crop = 32
        batch_size = 4
        epochs = 12
        lr = 3e-3
        val_fraction = 0.25
        augment = "flips"
        worst = 2
        threads = 1
        out = "{out}"
        option = {{encoder_depth = 2, decoder_channels = [16, 16]}}
        """
    )
    return ["train", "--config", str(config), "--json"]


def test_a_run_by_the_command_learns_and_evaluate_and_the_report_agree(small, overlapping, tmp_path):
    out = tmp_path / "bands"
    line = words(small, overlapping, out)
    assert read_settings(out.with_suffix(".toml"))["multilabel"] is True
    assert tomllib.loads(out.with_suffix(".toml").read_text())["multilabel"] is True
    done = CliRunner().invoke(cli, line, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found = Evaluation.from_json((out / "best.json").read_text())
    assert (found.names, found.multilabel) == (NAMES, True)
    assert json.loads(done.stdout) == json.loads(found.as_json())
    assert found.iou[0] > 0.5  # all objects; chance is at most their share, 0.2
    losses = [float(row["loss"]) for row in read_log(out / "log.csv") if row["loss"]]
    assert losses[-1] < 0.7 * losses[0]

    def pixels(bands):
        return [int(bands[..., index].sum()) for index in range(4)]

    model = segcore.from_pretrained(out / "best")
    data = SegmentationData.from_folders(
        small["images"], overlapping / "tif", classes=4, multilabel=True, val_fraction=0.25,
        preprocessing=segcore.preprocessing(model),
    )  # fmt: skip
    expected = np.zeros((4, 4), np.int64)
    for groups in data.val_dataloader():
        for images, labels, _ in groups:
            guess = model.predict(images)[0] > 0
            for index in range(4):
                true = labels[0, index] == 1
                outcome = [~true & ~guess[index], ~true & guess[index], true & ~guess[index], true & guess[index]]
                expected[index] += [int(part.sum()) for part in outcome]
    assert found.matrix == expected.tolist()
    assert found.pixels == expected[:, 2:].sum(1).tolist()
    assert found.iou == pytest.approx((expected[:, 3] / expected[:, 1:].sum(1)).tolist(), abs=1e-6)
    assert found.accuracy == pytest.approx(expected[:, [0, 3]].sum() / expected.sum())

    chosen = [data.val_source.names[index] for index in data.val_indices]
    table, page = tmp_path / "val.csv", tmp_path / "page.html"
    masks = [str(overlapping / "tif" / f"{name}.tif") for name in chosen]
    rows = [f"{Path(small['images'], name)}.png,{mask}\n" for name, mask in zip(chosen, masks, strict=True)]
    table.write_text("image,mask\n" + "".join(rows))
    options = ["--table", str(table), "--multilabel", "--report", str(page), "--worst", "2"]
    text = CliRunner().invoke(cli, ["evaluate", str(out / "best"), *options], catch_exceptions=False).stdout
    assert re.search(rf"^object +{found.iou[0]:.4f} +{found.pixels[0]}$", text, re.MULTILINE)
    assert "rightly not  wrongly found  missed  found" in text
    for html in (page.read_text(), (out / "report.html").read_text()):
        assert html.count("<figure>") == 2
        assert "wrongly found" in html
        assert "mean of their colours" in html


@pytest.mark.slow
def test_two_processes_count_and_learn_as_one(small, overlapping, tmp_path):
    fields = small | {
        "masks": str(overlapping / "tif"), "multilabel": True, "precision": "64", "freeze": ["BatchNorm2d"],
        "augment": "flips", "val_fraction": 0.25, "accelerator": "cpu",
    }  # fmt: skip
    results = {}
    for name, change in (("one", {}), ("two", {"batch_size": 2, "devices": 2})):
        config = tmp_path / f"{name}.json"
        config.write_text(json.dumps(fields | change | {"out": str(tmp_path / name)}))
        command = [sys.executable, "-m", "segcore", "train", "--config", str(config)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        results[name] = Evaluation.from_json((tmp_path / name / "best.json").read_text())
    assert results["one"].matrix == results["two"].matrix
    one, two = (load_file(tmp_path / name / "best" / "model.safetensors") for name in results)
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], rtol=1e-10, atol=1e-12, msg=name)


def test_a_mask_of_classes_is_no_mask_of_bands_and_the_checkpoint_must_fit(small, overlapping, tmp_path):
    fields = small | {"multilabel": True}
    with pytest.raises(InputError, match=r"000\.png: a mask of 4 bands is needed"):
        train(Settings(**fields), tell=lambda line: None)
    with pytest.raises(InputError, match=r"12 of 12 pairs cannot be used"):
        train(Settings(**small | {"masks": str(overlapping / "tif")}), tell=lambda line: None)
    assert not Path(small["out"]).exists()
    segcore.create_model("unet", "resnet18", encoder_depth=2, decoder_channels=(8, 8), classes=3).save_pretrained(
        tmp_path / "three", preprocessing=Preprocessing((0.0,) * 3, (1.0,) * 3)
    )
    result = CliRunner().invoke(
        cli, ["evaluate", str(tmp_path / "three"), "--images", small["images"], "--masks", str(overlapping / "each"),
              "--multilabel", *(word for name in NAMES for word in ("--class-folders", name))],
    )  # fmt: skip
    assert "4 folders are given for 3 classes" in str(result.exception)


def test_results_from_before_the_mode_are_read():
    old = {"names": ["a", "b"], "matrix": [[1, 0], [2, 3]], "iou": [0.5, None], "mean_iou": 0.5, "accuracy": 0.6,
           "images": [["x", 0.1]]}  # fmt: skip
    found = Evaluation.from_json(json.dumps(old))
    assert (found.multilabel, found.pixels, found.columns) == (False, [1, 5], ["a", "b"])


def test_labels_of_each_mode():
    logits = torch.tensor([[[[-1.0, 2.0]], [[1.0, 1.0]]]])
    assert labels_of(logits, "multiclass").tolist() == [[[1, 0]]]
    assert labels_of(logits, "multilabel").tolist() == [[[[0, 1], [1, 1]]]]
    assert labels_of(logits[:, :1], "binary").tolist() == [[[0, 1]]]
