"""The command from end to end."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from predict_helpers import HALF, call, checkpoint, exit_code, files, photographs, table
from segcore_plugin_predict import predict, predict_tiled
from segcore_plugin_predict.command import predict_command
from segcore_plugin_predict.pictures import palette

import segcore


class TestResults:
    def test_a_folder_becomes_label_maps_and_a_table(self, ready):
        model, images, out = ready
        assert "Predicted 4 of 4 images. See" in call(model, images, "-o", out)
        assert set(files(out)) == {"0.png", "1.png", "2.png", "3.png", "areas.csv"}
        network, rows = segcore.from_pretrained(model), table(out)
        for index in range(4):
            expected = predict(network, images / f"{index}.png").numpy()
            assert len(np.unique(expected)) > 1
            with Image.open(out / f"{index}.png") as picture:
                assert picture.mode == "P"
                assert np.array_equal(np.asarray(picture), expected)
                assert np.array_equal(np.asarray(picture.convert("RGB")), palette(3)[expected])
            counts = np.bincount(expected.ravel(), minlength=3)
            mine = [row for row in rows if row["image"] == str(index)]
            assert [int(row["pixels"]) for row in mine] == counts.tolist()
            assert [row["name"] for row in mine] == ["background", "leaf", "stem"]
            assert sum(float(row["share"]) for row in mine) == pytest.approx(1, abs=1e-5)
            assert {(row["width"], row["height"]) for row in mine} == {("56", "40")}

    def test_probabilities_and_overlays(self, ready):
        model, images, out = ready
        call(model, images / "0.png", "-o", out, "--probabilities", "--overlays")
        assert set(files(out)) == {"0.png", "0.npz", "0.overlay.jpg", "areas.csv"}
        expected = predict(segcore.from_pretrained(model), images / "0.png", output="probabilities")
        stored = np.load(out / "0.npz")["probabilities"]
        assert stored.dtype == np.float16
        assert np.abs(stored - expected.numpy()).max() < 1e-3
        assert np.array_equal(np.asarray(Image.open(out / "0.png")), expected.argmax(0))
        with Image.open(out / "0.overlay.jpg") as picture:
            assert picture.size == (56, 40)

    def test_options_of_tiles_and_flips_reach_the_model(self, ready):
        model, images, out = ready
        options = ("--tile", 24, "--overlap", 8, "--blend", "linear", "--batch", 2, "--flips", "hv")
        call(model, images / "1.png", "-o", out, *options)
        network = segcore.from_pretrained(model)
        expected = predict_tiled(network, images / "1.png", 24, 8, blend="linear", flips="hv")
        assert np.array_equal(np.asarray(Image.open(out / "1.png")), expected)
        assert not torch.equal(expected, predict(network, images / "1.png"))

    @pytest.mark.parametrize("options", [(), ("--probabilities", "--flips", "h"), ("--multilabel",)])
    def test_images_of_one_size_in_one_call_give_what_each_gives_alone(self, ready, monkeypatch, options):
        from segcore_plugin_predict import network

        model, _, out = ready
        images = photographs(out.parent / "in", 7)
        photographs(out.parent / "low", 1, (32, 56))
        (out.parent / "low/0.png").rename(images / "4.png")  # 0 to 3 and 5 to 6 are neighbours of one size
        calls, real = [], network.Scores.__call__
        monkeypatch.setattr(network.Scores, "__call__", lambda self, x: calls.append(len(x)) or real(self, x))
        call(model, images, "-o", out, *options)
        assert calls == [1] * 7
        calls.clear()
        call(model, images, "-o", out.parent / "together", "--batch", 3, *options)
        assert calls == [3, 1, 1, 2]
        one, three = table(out), table(out.parent / "together")
        assert [row["image"] for row in one] == [row["image"] for row in three]
        for path in out.rglob("*.png"):
            a, b = (np.asarray(Image.open(folder / path.name)) for folder in (out, out.parent / "together"))
            assert (a == b).mean() > 0.999, "rounding may decide between equal scores"
        for path in out.rglob("*.npz"):
            a, b = (np.load(folder / path.name)["probabilities"] for folder in (out, out.parent / "together"))
            np.testing.assert_allclose(a.astype(float), b, atol=1e-3)
        assert "7 were there already" in call(model, images, "-o", out, "--batch", 2, *options)

    def test_large_images_are_tiled_by_default(self, ready, monkeypatch):
        from segcore_plugin_predict import job

        model, images, out = ready
        monkeypatch.setattr(job, "LARGE", 1000)
        monkeypatch.setattr(job, "TILE", 24)
        call(model, images / "1.png", "-o", out, "--overlap", 8)
        network = segcore.from_pretrained(model)
        tiled = predict_tiled(network, images / "1.png", 24, 8)
        assert np.array_equal(np.asarray(Image.open(out / "1.png")), tiled)
        call(model, images / "1.png", "-o", out, "--tile", 0)
        assert np.array_equal(np.asarray(Image.open(out / "1.png")), predict(network, images / "1.png"))

    def test_large_images_have_tiles_of_the_size_of_training(self, tmp_path, monkeypatch):
        from segcore_plugin_predict import job

        monkeypatch.setattr(job, "LARGE", 1000)
        checkpoint(tmp_path / "model").save_pretrained(tmp_path / "model", preprocessing=HALF, image_size=(24, 36))
        images, out = photographs(tmp_path / "in", 1), tmp_path / "out"
        assert "tiles of 24 x 36 pixels, as in training" in call(tmp_path / "model", images, "-o", out)
        network = segcore.from_pretrained(tmp_path / "model")
        tiled = predict_tiled(network, images / "0.png", (24, 36), (6, 9))
        assert np.array_equal(np.asarray(Image.open(out / "0.png")), tiled)
        assert torch.equal(predict_tiled(network, images / "0.png"), tiled)
        assert not torch.equal(predict(network, images / "0.png"), tiled)
        with pytest.raises(segcore.OptionValueError, match="--overlap 30 must be less than the tiles, 24 x 36"):
            call(tmp_path / "model", images, "-o", out, "--overlap", 30)
        assert "in tiles of" not in call(tmp_path / "model", images, "-o", out, "--quiet")

    def test_one_class_and_its_threshold(self, tmp_path):
        checkpoint(tmp_path / "model", classes=1, names=("leaf",))
        images = photographs(tmp_path / "in", 1)
        call(tmp_path / "model", images, "-o", tmp_path / "out", "--threshold", 0.6)
        expected = predict(segcore.from_pretrained(tmp_path / "model"), images / "0.png", threshold=0.6)
        assert np.array_equal(np.asarray(Image.open(tmp_path / "out/0.png")), expected)
        assert [row["name"] for row in table(tmp_path / "out")] == ["background", "leaf"]

    @pytest.mark.parametrize("probabilities", [(), ("--probabilities",)])
    def test_several_labels_have_one_map_for_each_class(self, tmp_path, probabilities):
        checkpoint(tmp_path / "model", activation="sigmoid", names=None)
        images, out = photographs(tmp_path / "in", 2), tmp_path / "out"
        call(tmp_path / "model", images, "-o", out, "--overlays", *probabilities)
        expected = predict(segcore.from_pretrained(tmp_path / "model"), images / "1.png")
        for index in range(3):
            assert np.array_equal(np.asarray(Image.open(out / f"1.class-{index}.png")), expected[index])
        assert [int(row["pixels"]) for row in table(out)[3:]] == expected.sum((1, 2)).tolist()
        assert table(out)[0]["name"] == "class 0"
        assert "2 were there already" in call(tmp_path / "model", images, "-o", out)
        (out / "1.class-1.png").unlink()
        assert "1 were there already" in call(tmp_path / "model", images, "-o", out)

    def test_more_than_256_classes(self, tmp_path):
        checkpoint(tmp_path / "model", classes=300, names=None)
        images = photographs(tmp_path / "in", 1)
        call(tmp_path / "model", images, "-o", tmp_path / "out", "--overlays")
        expected = predict(segcore.from_pretrained(tmp_path / "model"), images / "0.png")
        assert np.array_equal(np.asarray(Image.open(tmp_path / "out/0.png")), expected)

    def test_what_images_do_not_say_themselves(self, tmp_path):
        checkpoint(tmp_path / "model")
        (tmp_path / "in").mkdir()
        picture = Image.new("RGBA", (20, 30), (9, 99, 199, 0))
        picture.save(tmp_path / "in/a.png")
        assert exit_code(tmp_path / "model", tmp_path / "in", "-o", tmp_path / "out") == 3
        call(tmp_path / "model", tmp_path / "in", "-o", tmp_path / "out", "--alpha", "white")
        call(tmp_path / "model", tmp_path / "in", "-o", tmp_path / "two", "--bands", "3,2,1")
        swapped = np.asarray(picture)[..., [2, 1, 0]]
        expected = predict(segcore.from_pretrained(tmp_path / "model"), swapped)
        assert np.array_equal(np.asarray(Image.open(tmp_path / "two/a.png")), expected)


class TestFailures:
    def test_a_broken_image_among_good_ones(self, ready, capfd):
        model, images, out = ready
        whole = {name: (images / name).read_bytes() for name in ("1.png", "2.png")}
        (images / "1.png").write_bytes(whole["1.png"][:300])
        (images / "2.png").write_text("nothing")
        assert exit_code(model, images, "-o", out) == 3
        told = capfd.readouterr()
        assert told.err.count("Skipped ") == 2
        assert f"Skipped {images / '1.png'}: it is damaged" in told.err
        assert "Predicted 2 of 4 images, 2 failed" in told.out
        assert set(files(out)) == {"0.png", "3.png", "areas.csv"}
        assert {row["image"] for row in table(out)} == {"0", "3"}
        for name, content in whole.items():
            (images / name).write_bytes(content)
        assert "Predicted 2 of 4 images, 2 were there already" in call(model, images, "-o", out)
        assert {row["image"] for row in table(out)} == {"0", "1", "2", "3"}

    def test_an_image_on_which_the_model_fails(self, ready, capfd, monkeypatch):
        from segcore_plugin_predict import job

        model, images, out = ready
        photographs(images, 1, (41, 56))
        real = job.predict_tiled

        def fails(model, pixels, *arguments, **options):
            if pixels.shape[0] == 41:
                raise RuntimeError("out of memory")
            return real(model, pixels, *arguments, **options)

        monkeypatch.setattr(job, "predict_tiled", fails)
        assert exit_code(model, images, "-o", out) == 3
        assert f"Skipped {images / '0.png'}: RuntimeError: out of memory" in capfd.readouterr().err
        assert {"1.png", "2.png", "3.png"} < set(files(out))

    def test_broken_images_among_those_of_one_call(self, ready, capfd, monkeypatch):
        from segcore_plugin_predict import network

        model, _, out = ready
        images = photographs(out.parent / "in", 6)
        (images / "1.png").write_text("nothing")
        real = network.Scores.__call__

        def fails(self, x):
            if len(x) > 1 or abs(float(x.sum()) - spoilt) < 1e-3:
                raise RuntimeError("out of memory")
            return real(self, x)

        spoilt = float(HALF(np.asarray(Image.open(images / "3.png"))).sum())
        monkeypatch.setattr(network.Scores, "__call__", fails)
        assert exit_code(model, images, "-o", out, "--batch", 4) == 3
        errors = capfd.readouterr().err
        assert errors.count("Skipped ") == 2
        assert f"Skipped {images / '1.png'}: " in errors
        assert f"Skipped {images / '3.png'}: RuntimeError: out of memory" in errors
        assert {path.name for path in out.glob("*.png")} == {"0.png", "2.png", "4.png", "5.png"}

    @pytest.mark.parametrize(
        ("words", "code", "message"),
        [
            (("absent", "in", "-o", "out"), 4, "no folder"),
            (("model", "absent", "-o", "out"), 2, "no file, folder or match for 'absent'"),
            (("model", "model", "-o", "out"), 2, "holds no image"),
            (("model", "no*.png", "-o", "out"), 2, "holds no image"),
            (("model", "in", "-o", "in"), 2, "Choose another --out"),
            (("model", "in/0.png", "-o", "in"), 2, "lies in the result folder"),
            (("model", "in", "other", "-o", "out"), 2, "would both be called '0.png'"),
            (("model", "in", "-o", "out", "--tile", "64", "--overlap", "64"), 2, "--overlap 64 must be less"),
            (("model", "in", "-o", "out", "--bands", "a"), 2, "numbers with commas"),
            (("model", "in", "-o", "out", "--device", "nonsense"), 2, "--device 'nonsense' cannot be used"),
            (("model", "in", "-o", "model/config.json/x"), 2, "cannot be written to"),
            (("plain", "in", "-o", "out"), 5, "no preprocessing"),
            (("labels", "in", "-o", "out"), 2, "'argmax' itself"),
        ],
    )
    def test_what_cannot_be_done_is_said_before_anything_is_done(
        self, ready, tmp_path, monkeypatch, capfd, words, code, message
    ):
        monkeypatch.chdir(tmp_path)
        photographs(tmp_path / "other", 1)
        if words[0] == "plain":
            checkpoint(tmp_path / "plain", preprocessing=None)
        if words[0] == "labels":
            checkpoint(tmp_path / "labels", activation="argmax")
        assert exit_code(*words) == code
        assert message in capfd.readouterr().err
        assert not list(tmp_path.glob("out/*"))
        assert len(list((tmp_path / "in").iterdir())) == 4

    def test_a_full_disk_stops_the_run_and_what_is_finished_stays(self, ready, capfd, monkeypatch):
        model, images, out = ready
        real, written = Path.write_bytes, []

        def full(path, content):
            if len(written) == 2:
                real(path, content[: len(content) // 2])
                raise OSError(28, "No space left on device")
            written.append(path)
            return real(path, content)

        monkeypatch.setattr(Path, "write_bytes", full)
        assert exit_code(model, images, "-o", out) == 2
        assert "No space left on device" in capfd.readouterr().err
        assert set(files(out)) == {"0.png", "1.png"}
        monkeypatch.undo()
        assert "2 were there already" in call(model, images, "-o", out)


class TestInputs:
    def test_folders_patterns_and_files(self, tmp_path):
        checkpoint(tmp_path / "model")
        images = tmp_path / "in"
        for place in ("a", "a/b", ".hidden"):
            (images / place).mkdir(parents=True)
            photographs(images / place, 1)
        (images / "a/notes.txt").write_text("no image")
        (images / "a/.0.png").write_bytes(b"hidden")
        call(tmp_path / "model", images, "-o", tmp_path / "1")
        assert set(files(tmp_path / "1")) == {"a/0.png", "a/b/0.png", "areas.csv"}
        call(tmp_path / "model", images / "**" / "*.png", "-o", tmp_path / "2")
        assert set(files(tmp_path / "2")) == set(files(tmp_path / "1"))
        call(tmp_path / "model", images / "a/b/0.png", images / "a" / "b", "-o", tmp_path / "3")
        assert set(files(tmp_path / "3")) == {"0.png", "areas.csv"}

    def test_names_that_differ_in_their_suffix_keep_it(self, ready):
        model, images, out = ready
        Image.open(images / "0.png").save(images / "0.bmp")
        call(model, images, "-o", out)
        assert {"0.png.png", "0.bmp.png", "1.png"} < set(files(out))

    def test_results_inside_the_folder_are_not_taken_for_images(self, ready):
        model, images, _ = ready
        call(model, images, "-o", images / "out")
        assert "Predicted 0 of 4 images, 4 were there already" in call(model, images, "-o", images / "out")


class TestCommand:
    def test_it_is_offered_without_loading_torch_pillow_numpy_or_rich(self):
        code = (
            "import sys\nfrom segcore.cli import main\n"
            "try: main(['predict', '--help'])\nexcept SystemExit as stop: assert not stop.code\n"
            "assert not {'torch', 'PIL', 'rich', 'numpy'} & set(sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert "--overlays" in done.stdout

    def test_every_option_has_its_row_in_the_readme(self):
        readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
        for option in predict_command.params:
            if option.param_type_name == "option":
                assert all(f"`{name}`" in readme for name in option.opts if name.startswith("--")), option.opts

    def test_progress_has_speed_and_time_left(self, ready, monkeypatch):
        from segcore_plugin_predict import driver

        shown = []

        class Loud(driver.Console):
            def __init__(self, **_):
                super().__init__(file=io.StringIO(), force_terminal=True, width=120, record=True)
                shown.append(self)

        monkeypatch.setattr(driver, "Console", Loud)
        model, images, out = ready
        call(model, images, "-o", out)
        text = shown[0].export_text()
        assert "4/4" in text
        assert "images/s" in text
        assert "0:00:0" in text
