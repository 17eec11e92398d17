import io
import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image
from segcore_plugin_train import SegmentationData
from segcore_plugin_train.files import divide, pairs_of_folders, pairs_of_table
from segcore_plugin_train.sampler import Plan, StepSampler

from segcore import InputError, OptionValueError, Preprocessing

PLAIN = Preprocessing((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def put(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array)).save(path)


def pair(folder, name, size=(8, 6), value=0, suffix=".png"):
    put(folder / "images" / f"{name}{suffix}", np.full((*size, 3), 100, np.uint8))
    put(folder / "masks" / f"{name}.png", np.full(size, value, np.uint8))


def data(folder, **options):
    return SegmentationData.from_folders(
        folder / "images", folder / "masks", **{"classes": 2, "crop": 4, "batch_size": 2, **options}
    )


def test_pairs_by_name_in_subfolders_with_other_endings(tmp_path):
    pair(tmp_path, "b/1", suffix=".jpg")
    pair(tmp_path, "a")
    put(tmp_path / "masks/extra.png", np.zeros((2, 2), np.uint8))
    assert [p.name for p in pairs_of_folders(tmp_path / "images", tmp_path / "masks")] == ["a", "b/1"]


def test_a_suffix_of_masks(tmp_path):
    put(tmp_path / "images/a.png", np.zeros((2, 2), np.uint8))
    put(tmp_path / "masks/a_mask.png", np.zeros((2, 2), np.uint8))
    (found,) = pairs_of_folders(tmp_path / "images", tmp_path / "masks", "_mask")
    assert found.mask.name == "a_mask.png"
    with pytest.raises(InputError, match=r"1 of 1 images have no mask: .*a\.png.*a\.\*.*--mask-suffix"):
        pairs_of_folders(tmp_path / "images", tmp_path / "masks")


def test_two_masks_of_one_name(tmp_path):
    pair(tmp_path, "a")
    put(tmp_path / "masks/a.tif", np.zeros((2, 2), np.uint8))
    with pytest.raises(InputError, match="several files of one name"):
        pairs_of_folders(tmp_path / "images", tmp_path / "masks")


def test_missing_and_empty_folders(tmp_path):
    with pytest.raises(OptionValueError, match="does not exist"):
        data(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    with pytest.raises(OptionValueError, match="holds no image"):
        data(tmp_path)


def test_a_table_with_splits(tmp_path):
    for name in "abc":
        pair(tmp_path, name)
    rows = ["image,mask,split", *(f"images/{n}.png,masks/{n}.png,{'val' if n == 'b' else 'train'}" for n in "abc")]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    found = SegmentationData.from_table(tmp_path / "t.csv", classes=2)
    assert [found.train_source.names[i] for i in found.val_indices] == ["images/b.png"]
    assert len(found.train_indices) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no row"),
        ("image,label\na,b\n", "columns image and mask"),
        ("image,mask\nnone.png,none.png\n", r"line 2: there is no file"),
        ("image,mask\na.png,\n", "line 2: image and mask are needed"),
        ("image,mask,split\na.png,a.png,test\n", "split is"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises((InputError, OptionValueError), match=message):
        pairs_of_table(tmp_path / "t.csv")


def test_division_does_not_depend_on_order_and_hardly_on_others():
    names = [f"n{i}" for i in range(50)]
    train, val = divide(names, 0.2, seed=0)
    assert (len(train), len(val)) == (40, 10)
    assert not set(train) & set(val)
    chosen = {names[i] for i in val}
    more = ["extra", *names[::-1]]
    assert len(chosen & {more[i] for i in divide(more, 0.2, seed=0)[1]}) >= 9
    assert {names[i] for i in divide(names, 0.2, seed=1)[1]} != chosen
    assert divide(["a", "b"], 0.01, 0) != ([], [])
    for wrong in (0, 1, -1):
        with pytest.raises(OptionValueError):
            divide(names, wrong, 0)
    with pytest.raises(OptionValueError, match="--val-images"):
        divide(["a"], 0.2, 0)


class Recorded:
    """Stands for one split of a Hugging Face dataset."""

    def __init__(self, count):
        self.rows = [
            {"image": Image.fromarray(np.full((6, 8, 3), i, np.uint8)), "mask": np.full((6, 8), i % 2, np.uint8)}
            for i in range(count)
        ]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


def test_records_as_a_hugging_face_dataset_gives_them():
    records = Recorded(5)
    buffer = io.BytesIO()
    records.rows[0]["image"].save(buffer, "PNG")
    records.rows[0] = {"image": {"bytes": buffer.getvalue(), "path": None}, "mask": records.rows[0]["mask"]}
    found = SegmentationData.from_dataset(records, classes=2, crop=4, batch_size=2, preprocessing=PLAIN)
    assert set(found.check()) == {"train", "val"}
    assert found.check("sizes")["train"].sizes == [(6, 8)] * 4
    image, labels, index = next(iter(found.val_dataloader()))[0]
    assert image.shape == (1, 3, 6, 8)
    assert labels.unique().tolist() == [index[0] % 2]
    with pytest.raises(OptionValueError, match="no column 'photo'"):
        SegmentationData.from_dataset(records, classes=2, image_column="photo")


def test_a_dataset_by_name_is_loaded_with_the_package_datasets(monkeypatch):
    with pytest.raises(OptionValueError, match=r"segcore-plugin-train\[datasets\]"):
        monkeypatch.setitem(sys.modules, "datasets", None)
        SegmentationData.from_dataset("owner/name", classes=2)
    asked = []
    stub = types.ModuleType("datasets")
    stub.load_dataset = lambda name, split: asked.append((name, split)) or Recorded(3)
    monkeypatch.setitem(sys.modules, "datasets", stub)
    found = SegmentationData.from_dataset("owner/name", val="test", classes=2)
    assert asked == [("owner/name", "train"), ("owner/name", "test")]
    assert len(found.train_indices) == len(found.val_indices) == 3


def test_checks_name_every_file_that_cannot_be_used(tmp_path):
    for name in "abcd":
        pair(tmp_path, name)
    put(tmp_path / "masks/a.png", np.zeros((3, 3), np.uint8))
    put(tmp_path / "masks/b.png", np.full((8, 6), 5, np.uint8))
    (tmp_path / "images/c.png").write_bytes((tmp_path / "images/c.png").read_bytes()[:45])
    with pytest.raises(InputError) as info:
        data(tmp_path, val_fraction=0.25).check()
    text = str(info.value)
    for part in (
        "3 of 4 pairs cannot be used",
        "masks/a.png: the mask is 3 x 3 pixels, and its image ",
        "images/a.png 6 x 8. Resize the mask",
        "b.png: it has labels out of range: 5 (48 pixels)",
        "c.png",
        "list the others in a CSV file (--table)",
    ):
        assert part in text


def test_sizes_alone_can_be_checked_and_counts_are_returned(tmp_path):
    for name in "abc":
        pair(tmp_path, name, value=1)
    found = data(tmp_path).check()["train"]
    assert found.pixels.tolist() == [0, 2 * 48]
    put(tmp_path / "masks/b.png", np.zeros((3, 3), np.uint8))
    with pytest.raises(InputError, match=r"1 of \d pairs"):
        data(tmp_path, val_fraction=0.5).check("sizes")
        data(tmp_path, val_fraction=0.5, seed=1).check("sizes")
    assert data(tmp_path).check("none") == {}


def test_deep_and_many_banded_images(tmp_path):
    for name in "ab":
        put(tmp_path / f"images/{name}.png", np.full((6, 6), 65535, np.uint16))
        put(tmp_path / f"masks/{name}.png", np.zeros((6, 6), np.uint8))
    one = Preprocessing((0.0,), (1.0,))
    images, _ = next(iter(data(tmp_path, channels=1, preprocessing=one, batch_size=1, augment=None).train_dataloader()))
    assert images.unique().tolist() == [1.0]


def test_small_images_are_padded_with_what_does_not_count(tmp_path):
    for name in "ab":
        pair(tmp_path, name, size=(3, 9), value=1)
    found = data(tmp_path, crop=(5, 4), batch_size=1, augment=None, preprocessing=PLAIN)
    images, labels = next(iter(found.train_dataloader()))
    assert images.shape == (1, 3, 5, 4)
    assert labels[0, :3].unique().tolist() == [1]
    assert labels[0, 3:].unique().tolist() == [found.ignore]
    assert not images[0, :, 3:].any()


def test_steps_and_processes_partition_the_same_samples():
    whole = list(StepSampler(Plan(10, 4, seed=3)))
    halves = [list(StepSampler(Plan(10, 2, processes=2, seed=3), rank)) for rank in (0, 1)]
    assert len(whole) == 2
    assert [a + b for a, b in zip(*halves, strict=True)] == whole
    assert list(StepSampler(Plan(10, 4, seed=3), start=1)) == whole[1:]
    split = list(StepSampler(Plan(10, 2, accumulate=2, seed=3)))
    assert [split[i] + split[i + 1] for i in (0, 2)] == whole
    assert len({key for batch in whole for key in batch}) == 8


def test_epochs_differ_and_small_sets_are_repeated():
    sampler = StepSampler(Plan(3, 2, per_epoch=8))
    first = [key for batch in sampler for key in batch]
    assert len(first) == 8
    assert sorted(index for _, index in first[:3]) == [0, 1, 2]
    sampler.set_epoch(1)
    assert [key for batch in sampler for key in batch] != first
    assert len(list(StepSampler(Plan(1, 4)))) == 1


def test_a_sample_does_not_depend_on_workers_or_on_what_came_before(shapes):
    def batches(**options):
        found = SegmentationData.from_folders(
            shapes / "images", shapes / "masks", classes=4, crop=24, batch_size=3, **options
        )
        return list(found.train_dataloader())

    plain = batches()
    assert all(
        torch.equal(a, b)
        for one, two in zip(plain, batches(workers=2), strict=True)
        for a, b in zip(one, two, strict=True)
    )
    assert not torch.equal(plain[0][0], batches(seed=1)[0][0])


def test_validation_shows_each_image_once_over_all_processes(shapes, monkeypatch):
    found = SegmentationData.from_folders(shapes / "images", shapes / "masks", classes=4, val_fraction=0.5)
    seen = []
    for rank in (0, 1, 2, 3):
        monkeypatch.setattr(found, "_place", lambda rank=rank: (rank, 4, 0))
        seen += [i for groups in found.val_dataloader() for _, _, indices in groups for i in indices]
    assert sorted(seen) == found.val_indices


@pytest.mark.parametrize(
    "options",
    [
        {"crop": 0},
        {"batch_size": 0},
        {"workers": -1},
        {"val_fraction": 0},
        {"augment": "flip"},
        {"augment": 3},
        {"samples_per_epoch": 0},
        {"accumulate": 0},
    ],
)
def test_values_that_make_no_sense(shapes, options):
    with pytest.raises(OptionValueError):
        SegmentationData.from_folders(
            shapes / "images", shapes / "masks", **{"classes": 4, **options}
        ).train_dataloader()


def test_bands_are_chosen_and_records_of_16_bits_keep_them(tmp_path):
    for name in "ab":
        image = np.zeros((6, 6, 4), np.uint8)
        image[..., 2], image[..., 3] = 51, 255
        put(tmp_path / f"images/{name}.png", image)
        put(tmp_path / f"masks/{name}.png", np.zeros((6, 6), np.uint8))
    plain = {"augment": None, "batch_size": 1}
    four = data(tmp_path, channels=4, preprocessing=Preprocessing((0.0,) * 4, (1.0,) * 4), **plain)
    assert next(iter(four.train_dataloader()))[0].amax((0, 2, 3)).tolist() == pytest.approx([0, 0, 0.2, 1])
    two = Preprocessing((0.0,) * 2, (1.0,) * 2)
    found = data(tmp_path, channels=2, preprocessing=two, read_options={"bands": (3, 1)}, **plain)
    assert next(iter(found.train_dataloader()))[0].amax((0, 2, 3)).tolist() == pytest.approx([0.2, 0])
    with pytest.raises(InputError, match=r"a\.png"):
        data(tmp_path, channels=2, **plain).check()
    deep = {"image": Image.fromarray(np.full((6, 6), 65535, np.uint16)), "mask": np.zeros((6, 6), np.uint8)}
    records = SegmentationData.from_dataset(
        [deep, deep], classes=2, channels=1, preprocessing=Preprocessing((0.0,), (1.0,))
    )
    assert next(iter(records.val_dataloader()))[0][0].unique().tolist() == [1.0]
    wrong = {"image": np.zeros((6, 6, 2), np.uint8), "mask": np.zeros((6, 6), np.uint8)}
    with pytest.raises(InputError, match=r"record\[0\]: 3 channels"):
        SegmentationData.from_dataset([wrong, wrong], classes=2).check()


def test_a_photograph_that_was_turned_is_compared_as_it_is_seen(tmp_path):
    for name in "ab":
        pair(tmp_path, name, size=(6, 8))
        turned = Image.fromarray(np.full((8, 6, 3), 100, np.uint8))
        exif = turned.getexif()
        exif[274] = 6
        (tmp_path / f"images/{name}.png").unlink()
        turned.save(tmp_path / f"images/{name}.jpg", exif=exif)
    for how in ("sizes", "full"):
        assert data(tmp_path).check(how)["train"].sizes == [(6, 8)]
