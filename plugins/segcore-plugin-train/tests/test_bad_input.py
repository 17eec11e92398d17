"""What is wrong is told by the command before the first step, with the file and what to do; else the run stops cleanly."""

import errno
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import SafetensorError
from segcore_plugin_train import SegmentationData, Settings, TrainingError, keeper, state, train

import segcore
from segcore import InputError
from segcore.cli import main


@pytest.fixture
def copied(shapes, small, tmp_path):
    """A copy of the small set to damage, and the fields of a run on it."""
    for part in ("images", "masks"):
        shutil.copytree(shapes / part, tmp_path / part)
    fields = small | {"images": str(tmp_path / "images"), "masks": str(tmp_path / "masks"), "epochs": 1}
    return tmp_path, fields


def told(capsys, words):
    """Run the command and return its exit code and what it printed."""
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, words)))
    printed = capsys.readouterr()
    assert "Traceback" not in printed.out + printed.err
    return stop.value.code, printed.out + printed.err


def trains(fields):
    """Return the command line of a run with some fields, which stand in a file beside its folder."""
    path = Path(fields["images"]).parent / "run.yaml"
    path.write_text(json.dumps(fields))  # JSON is YAML
    return ["train", "--config", path]


def quietly(**fields):
    return train(Settings(**fields), tell=lambda line: None)


def no_mask(folder, fields):
    (folder / "masks/003.png").unlink()


def two_masks(folder, fields):
    shutil.copy(folder / "masks/003.png", folder / "masks/003.tif")


def other_size(folder, fields):
    Image.new("L", (30, 32)).save(folder / "masks/003.png")


def other_size_of_headers(folder, fields):
    other_size(folder, fields)
    fields["check"] = "sizes"


def out_of_range(folder, fields):
    Image.fromarray(np.full((32, 32), 7, np.uint8)).save(folder / "masks/003.png")


def fewer_classes(folder, fields):
    fields["classes"] = 3


def cut(folder, fields):
    path = folder / "images/003.png"
    path.write_bytes(path.read_bytes()[:300])


def no_image(folder, fields):
    (folder / "images/003.png").write_text("this is text")


def no_image_by_its_header(folder, fields):
    no_image(folder, fields)
    fields["check"] = "sizes"


def nothing_in_it(folder, fields):
    (folder / "masks/003.png").write_bytes(b"")


def lossy(folder, fields):
    Image.open(folder / "masks/003.png").save(folder / "masks/003.jpg")
    (folder / "masks/003.png").unlink()


def not_a_number(folder, fields):
    Image.fromarray(np.full((32, 32), np.nan, np.float32)).save(folder / "images/003.tif")
    (folder / "images/003.png").unlink()


def transparent(folder, fields):
    Image.new("RGBA", (32, 32), (1, 2, 3, 0)).save(folder / "images/003.png")


def other_channels(folder, fields):
    fields["channels"] = 5


def empty(folder, fields):
    (folder / "nothing").mkdir()
    fields["images"] = str(folder / "nothing")


def empty_of_masks(folder, fields):
    (folder / "nothing").mkdir()
    fields["masks"] = str(folder / "nothing")


def not_there(folder, fields):
    fields["masks"] = str(folder / "nowhere")


def no_classes(folder, fields):
    del fields["classes"]


def too_few_names(folder, fields):
    fields["names"] = ["a", "b"]


def one_image(folder, fields):
    for path in (folder / "images").glob("0[01][1-9].png"):
        path.unlink()
    (folder / "images/010.png").unlink()


def nowhere_to_write(folder, fields):
    fields["out"] = str(folder / "images/000.png/run")


def no_such_accelerator(folder, fields):
    fields["accelerator"] = "abacus"


CASES = [
    (no_mask, 2, "images/003.png. The first would be ", "--mask-suffix"),
    (two_masks, 2, "masks/003.png", "keep one"),
    (other_size, 2, "masks/003.png: the mask is 30 x 32 pixels", "Resize the mask"),
    (other_size_of_headers, 2, "masks/003.png: the mask is 30 x 32 pixels", "Resize the mask"),
    (out_of_range, 2, "masks/003.png: it has labels out of range: 7 (1024 pixels)", "Raise --classes"),
    (fewer_classes, 2, "masks/001.png: it has labels out of range: 3", "Raise --classes"),
    (cut, 2, "images/003.png: it is damaged", "Repair them or take them away"),
    (no_image, 2, "images/003.png: this is no PNG", "Convert it"),
    (no_image_by_its_header, 2, "images/003.png: this is no image", "Convert it"),
    (nothing_in_it, 2, "masks/003.png: this is no image", "Save masks as PNG or TIFF"),
    (lossy, 2, "masks/003.jpg: a JPEG changes the values", "Save masks as PNG or TIFF"),
    (not_a_number, 2, "images/003.tif: it holds NaN", "Repair them"),
    (transparent, 2, "images/003.png: it has transparent pixels", "--alpha"),
    (other_channels, 2, ".png: it has 3 bands, and the model takes 5", "--bands"),
    (empty, 2, "nothing' holds no image", "no file with one of .bmp"),
    (empty_of_masks, 2, "nothing' holds no image", "no file with one of .bmp"),
    (not_there, 2, "nowhere' does not exist", "paths are relative to"),
    (no_classes, 2, "classes are needed", "--classes 4"),
    (too_few_names, 2, "2 names are given for 4 classes", "a, b"),
    (one_image, 2, "1 image cannot be divided", "--val-images"),
    (nowhere_to_write, 2, "000.png/run", "Choose another --out"),
    (no_such_accelerator, 2, "accelerator='abacus'", "Available names are"),
]


@pytest.mark.parametrize(("spoil", "code", "what", "advice"), CASES, ids=[case[0].__name__ for case in CASES])
def test_the_command_tells_before_the_first_step(copied, capsys, spoil, code, what, advice):
    folder, fields = copied
    spoil(folder, fields)
    got, text = told(capsys, trains(fields))
    assert (got, len(re.findall("^Error: ", text, re.MULTILINE))) == (code, 1)
    assert what in text
    assert advice in text
    assert not (Path(fields["out"]) / state.NAME).exists()


def test_all_files_that_cannot_be_used_are_named_up_to_ten(copied, capsys):
    folder, fields = copied
    for path in (folder / "masks").iterdir():
        path.write_text("no mask")
    _, text = told(capsys, trains(fields))
    assert "12 of 12 pairs cannot be used" in text
    assert text.count("this is no image") == 10
    assert "... and 2 more" in text


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("part", ["train", "val"])
def test_what_was_not_checked_is_named_when_it_is_read_also_by_workers(copied, capsys, workers, part):
    folder, fields = copied
    data = SegmentationData.from_folders(folder / "images", folder / "masks", classes=4)
    index = data.train_indices[0] if part == "train" else data.val_indices[0]
    name = data.train_source.names[index]
    (folder / f"images/{name}.png").write_text("no image")
    code, text = told(capsys, trains(fields | {"check": "none", "workers": workers}))
    assert code == 2
    error = text[text.index("Error: ") :]
    assert error.splitlines() == [
        f"Error: {folder}/images/{name}.png: this is no PNG, JPEG, TIFF, WebP or BMP image. Convert it."
    ]


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_last_save(copied, capsys):
    _, fields = copied
    code, text = told(capsys, trains(fields | {"lr": 1e30, "epochs": 9, "freeze": []}))
    assert code == 2
    assert "Error: the loss is nan at step" in text
    assert "What was saved before is kept. Lower the learning rate (--lr)" in text
    out = Path(fields["out"])
    quietly(**fields, resume=True)
    before = (out / state.NAME).read_bytes()
    code, text = told(capsys, trains(fields | {"lr": 1e30, "epochs": 9}))
    assert code == 2
    assert "holds a run" in text
    assert (out / state.NAME).read_bytes() == before


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device.*Make room"),
        (SafetensorError("I/O error: No space left on device"), "No space left on device.*Make room"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), "fewer --workers"),
        (MemoryError("no more"), "memory is full: no more.*--batch-size"),
    ],
)
def test_a_machine_that_is_full_ends_the_run_and_resume_goes_on(copied, monkeypatch, error, advice):
    _, fields = copied
    fields |= {"epochs": 3, "save_every": 1}
    save = keeper.save_state

    def full(path, kept):
        if kept.step == 4:
            raise error
        save(path, kept)

    monkeypatch.setattr(keeper, "save_state", full)
    with pytest.raises(TrainingError, match=f"{advice}.*What was saved before is kept; --resume goes on"):
        quietly(**fields)
    out = Path(fields["out"])
    assert state.load_state(out / state.NAME).step == 3
    segcore.from_pretrained(out / "last")
    monkeypatch.undo()
    quietly(**fields, resume=True)
    assert state.load_state(out / state.NAME).step == 6


class TestEvaluate:
    @pytest.fixture
    def trained(self, copied):
        folder, fields = copied
        quietly(**fields)
        return folder, ["evaluate", Path(fields["out"]) / "best", "--images", folder / "images", "--masks"]

    def test_files_and_places(self, trained, capsys):
        folder, words = trained
        for more, text in (
            ([folder / "nowhere"], "does not exist"),
            ([folder / "masks", "--report", folder / "none" / "page.html"], "there is no folder"),
            ([folder / "masks", "--device", "abacus"], "device 'abacus' cannot be used"),
            ([folder / "masks", "--names", "a"], "there are 1 names"),
        ):
            code, printed = told(capsys, [*words, *more])
            assert (code, printed.startswith("Error: ")) == (2, True)
            assert text in printed
        Image.new("L", (30, 32)).save(folder / "masks/003.png")
        code, printed = told(capsys, [*words, folder / "masks"])
        assert (code, "masks/003.png: the mask is 30 x 32 pixels" in printed) == (2, True)
        code, printed = told(capsys, ["evaluate", folder / "masks", *words[2:], folder / "masks"])
        assert (code, "holds no model.safetensors" in printed) == (4, True)

    def test_classes_that_do_not_fit(self, trained, capsys):
        folder, words = trained
        Image.fromarray(np.full((32, 32), 4, np.uint8)).save(folder / "masks/003.png")
        code, printed = told(capsys, [*words, folder / "masks"])
        assert (code, "003.png: it has labels out of range: 4" in printed) == (2, True)


def test_records_are_named_by_number_and_column():
    rows = [{"image": np.zeros((6, 8, 3), np.uint8), "mask": np.zeros((6, 6), np.uint8)}] * 2
    for how in ("full", "sizes"):
        with pytest.raises(
            InputError, match=r"record\[0\]\['mask'\]: the mask is 6 x 6 .*record\[0\]\['image'\] 8 x 6"
        ):
            SegmentationData.from_dataset(rows, classes=2).check(how)
