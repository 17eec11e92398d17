"""Runs that are repeated, killed or interrupted."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from predict_helpers import call, checkpoint, files, photographs, table
from segcore_plugin_predict import results
from segcore_plugin_predict.pictures import record_of


class TestAgain:
    def test_what_is_finished_is_not_done_again(self, ready):
        model, images, out = ready
        call(model, images, "-o", out)
        before = {name: (out / name).stat().st_mtime_ns for name in files(out) if name.endswith("png")}
        (out / "2.png").unlink()
        assert "Predicted 1 of 4 images, 3 were there already" in call(model, images, "-o", out)
        after = {name: (out / name).stat().st_mtime_ns for name in files(out) if name.endswith("png")}
        assert {name for name in after if after[name] != before[name]} == {"2.png"}
        assert len(table(out)) == 12
        assert "Predicted 4 of 4 images. " in call(model, images, "-o", out, "--again")

    @pytest.mark.parametrize(
        "words", [("--threshold", 0.4), ("--flips", "h"), ("--tile", 24, "--overlap", 4), ("--bands", "1,2,3")]
    )
    def test_other_options_are_another_result(self, ready, words):
        model, images, out = ready
        call(model, images / "0.png", "-o", out)
        assert "Predicted 1 of 1 images. " in call(model, images / "0.png", "-o", out, *words)
        assert "1 were there already" in call(model, images / "0.png", "-o", out, *words, "--batch", 3)

    def test_another_checkpoint_or_image_is_another_result(self, ready):
        model, images, out = ready
        call(model, images, "-o", out)
        checkpoint(model, seed=1)
        assert "Predicted 4 of 4 images. " in call(model, images, "-o", out)
        Image.new("RGB", (9, 9)).save(images / "3.png")
        assert "Predicted 1 of 4 images" in call(model, images, "-o", out)
        (out / "0.png").write_bytes(b"")
        Image.new("L", (4, 4)).save(out / "1.png")  # a stranger's
        assert "Predicted 2 of 4 images" in call(model, images, "-o", out)

    def test_files_that_are_asked_for_later_are_made_from_the_same_prediction(self, ready):
        model, images, out = ready
        call(model, images, "-o", out)
        assert "Predicted 4 of 4" in call(model, images, "-o", out, "--overlays")
        assert "4 were there already" in call(model, images, "-o", out)
        assert "4 were there already" in call(model, images, "-o", out, "--overlays")
        (out / "1.overlay.jpg").unlink()
        assert "3 were there already" in call(model, images, "-o", out, "--overlays")

    def test_leftovers_of_dead_processes_are_removed_and_others_stay(self, ready):
        model, images, out = ready
        with results.workplace(out) as mine:
            parts = mine.name.split("-")
            dead = subprocess.run(
                [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True
            )
            litter = out / "-".join([*parts[:2], dead.stdout.strip(), "ab"])
            elsewhere = out / "-".join([parts[0], "01234567", dead.stdout.strip(), "ab"])
            for folder in (litter, elsewhere):
                folder.mkdir()
            call(model, images, "-o", out)
            assert not litter.exists()
            assert elsewhere.exists()
            assert mine.exists()
        assert not mine.exists()


HELD = """
import sys, threading
import segcore
from segcore.testing import TinyDecoder, TinyEncoder
segcore.encoders["predict-tiny-encoder"] = TinyEncoder
segcore.decoders["predict-tiny-decoder"] = TinyDecoder

def hold():
    print("held", flush=True)
    threading.Event().wait()

{}
from segcore.cli import main
main(["predict", *sys.argv[1:]])
"""
HALF_WRITTEN = """
from segcore_plugin_predict import results
write, count = results.Path.write_bytes, 0

def some(path, content):
    global count
    count += 1
    if count < 9:
        return write(path, content)
    write(path, content[: len(content) // 2])
    hold()

results.Path.write_bytes = some
"""
PREDICTING = """
from segcore_plugin_predict import job
predict, count = job.predict_tiled, 0

def some(*arguments, **options):
    global count
    count += 1
    if count > 3:
        hold()
    return predict(*arguments, **options)

job.predict_tiled = some
"""


def start_and_wait_until_held(where, *words):
    """Start the command in another process, which stops at a place of its code, and return when it has got there."""
    command = [sys.executable, "-c", HELD.format(where), *map(str, words)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    said = process.stdout.readline()
    assert said == "held\n", said + process.communicate()[1]
    return process


@pytest.mark.skipif(os.name == "nt", reason="signals")
class TestKilled:
    def test_a_killed_run_continues_and_gives_what_an_uninterrupted_one_gives(self, ready):
        """It is killed while the third file of the third image is half written."""
        model, _, out = ready
        images = photographs(out.parent / "in", 6)
        words = (model, images, "-o", out, "--overlays", "--probabilities")
        with start_and_wait_until_held(HALF_WRITTEN, *words) as process:
            process.kill()
        (left,) = out.glob(".predicting*/*")
        assert left.stat().st_size > 0
        names = {name for name in files(out) if not name.startswith(".predicting")}
        assert names == {f"{index}{kind}" for index in range(3) for kind in (".npz", ".overlay.jpg", ".png")} - {
            "2.png"
        }
        for name in ("0.png", "1.png"):
            assert record_of(out / name) is not None
            np.asarray(Image.open(out / name))
        assert "Predicted 4 of 6 images, 2 were there already" in call(*words)
        call(model, images, "-o", out.parent / "whole", "--overlays", "--probabilities")
        assert files(out) == files(out.parent / "whole")
        assert not list(out.glob(".predicting*"))

    def test_ctrl_c_leaves_whole_files_and_no_traceback(self, ready):
        model, _, out = ready
        images = photographs(out.parent / "in", 6)
        with start_and_wait_until_held(PREDICTING, model, images, "-o", out) as process:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate()
        assert process.returncode == 130
        assert "Interrupted" in errors
        assert "Traceback" not in errors
        assert not list(out.glob(".predicting*"))
        assert {path.name for path in out.glob("*.png")} == {"0.png", "1.png", "2.png"}
        assert all(record_of(path) for path in out.glob("*.png"))
