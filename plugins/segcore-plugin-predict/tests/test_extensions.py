"""Engines and backends of other packages, and what they build on."""

import pickle
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from segcore_plugin_predict import Job, Worker, extensions, find_inputs, predict, predict_tiled, workplace
from segcore_plugin_predict.extensions import BACKENDS, ENGINES, find_backend, find_engine
from segcore_plugin_predict.reading import ReadOptions

import segcore
from segcore import AmbiguousNameError, InputError, OptionValueError, PluginError, UnknownNameError
from segcore.cli import main

HALF = segcore.Preprocessing((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


class Module(torch.nn.Module):
    """A network as a backend gives it: no parameters, one that adds up channels."""

    def __init__(self, digest="abc", **config):
        super().__init__()
        self.config = {"in_channels": 3, "classes": 2, "activation": None, "preprocessing": HALF.as_dict()} | config
        self.tile_step = 4
        self.digest = digest
        self.asked = []

    def forward(self, x):
        self.asked.append((tuple(x.shape), x.dtype, torch.is_grad_enabled()))
        return torch.cat([x[:, :1], x[:, 1:2]], dim=1)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Return a function that installs a package with a module and entry points."""
    made = []

    def install(name, entries, code=""):
        folder = tmp_path / f"site-{name}"
        info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(textwrap.dedent(entries))
        module = name.replace("-", "_")
        (folder / f"{module}.py").write_text(textwrap.dedent(code))
        monkeypatch.syspath_prepend(folder)
        made.append(module)
        return module

    yield install
    for module in made:
        sys.modules.pop(module, None)


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for index in range(3):
        Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)).save(tmp_path / f"in/{index}.png")
    return tmp_path / "in"


def job(checkpoint, out, **options):
    values = {
        "probabilities": False, "overlays": False, "flips": "", "tile": None, "overlap": None, "blend": "gaussian",
        "batch": 1, "threshold": 0.5, "multilabel": None, "reading": ReadOptions(), "device": None, "threads": None,
        "again": False, "quiet": True,
    }  # fmt: skip
    return Job(checkpoint=str(checkpoint), out=out, **(values | options))


def exit_code(*words):
    with pytest.raises(SystemExit) as stop:
        main(["predict", *map(str, words)])
    return stop.value.code


class TestNames:
    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (("--engine", "ray"), "there is no engine 'ray' .*; there is 'local'.* pip install segcore-plugin-ray"),
            (
                ("--backend", "openvino"),
                "no backend 'openvino' .*; there is .*'torch'.* pip install segcore-plugin-exp",
            ),
            (("--backend", "onnxruntime"), "no backend 'onnxruntime' .* pip install segcore-plugin-export"),
            (("--engine", "other"), "there is no engine 'other' among the installed packages; there is 'local'"),
            (("--workers", "2"), "--workers is for engines other than local"),
        ],
    )
    def test_what_is_not_there_is_refused_with_what_to_install(
        self, images, tmp_path, capfd, monkeypatch, words, message
    ):
        monkeypatch.setattr(extensions, "_entries", lambda _group: iter(()))
        segcore.create_model("segformer", "resnet18", encoder_depth=4, classes=2).save_pretrained(
            tmp_path / "model", preprocessing=HALF
        )
        assert exit_code(tmp_path / "model", images, "-o", tmp_path / "out", *words) == 2
        assert re.search(message, capfd.readouterr().err.replace("\n", " "))

    def test_others_are_named(self, package):
        package("seg-one", "[segcore_predict.engines]\nfirst = seg_one:run\n")
        with pytest.raises(UnknownNameError, match=r"there is .*'first'.*'local'"):
            find_engine("second")

    def test_what_cannot_be_imported_says_whose_it_is(self, package):
        package("seg-bad", "[segcore_predict.backends]\nbad = seg_bad:load\n", "import absent_module")
        with pytest.raises(
            PluginError, match="backend 'bad' of seg-bad cannot be imported: ModuleNotFoundError"
        ) as error:
            find_backend("bad")
        assert (error.value.distribution, error.value.phase) == ("seg-bad", "import")

    def test_what_is_no_function_is_refused(self, package):
        package("seg-bad", "[segcore_predict.engines]\nbad = seg_bad:run\n", "run = 3")
        with pytest.raises(PluginError, match="engine 'bad' of seg-bad is no function: seg_bad:run is int"):
            find_engine("bad")

    def test_two_packages_of_one_name_are_refused(self, package):
        for name in ("seg-one", "seg-two"):
            package(name, f"[segcore_predict.engines]\nsame = {name.replace('-', '_')}:run\n", "def run(*_): pass")
        with pytest.raises(AmbiguousNameError, match="offered by seg-one and by seg-two"):
            find_engine("same")

    def test_metadata_of_others_that_cannot_be_read_do_no_harm(self, package, tmp_path, monkeypatch):
        package("seg-one", "[segcore_predict.engines]\nfirst = seg_one:run\n", "def run(*_): return 0")
        broken = tmp_path / "broken/broken-1.dist-info"
        broken.mkdir(parents=True)
        (broken / "entry_points.txt").write_text("[a\nb c\n=")
        monkeypatch.syspath_prepend(broken.parent)
        assert find_engine("first")() == 0

    def test_the_groups_are_what_packages_rely_on(self):
        assert (ENGINES, BACKENDS) == ("segcore_predict.engines", "segcore_predict.backends")


class TestEngine:
    CODE = """
        from segcore_plugin_predict import drive, Worker
        def run(job, paths):
            assert (job.workers, job.backend) == (2, "torch")
            def predict(worker, images, work):
                import pickle
                other = Worker(pickle.loads(pickle.dumps(worker.job)))
                assert other.settings == worker.settings
                for image in reversed(images):
                    try:
                        yield image, other.run(image, work)
                    except Exception as error:
                        yield image, error
            return drive(job, paths, predict)
    """

    def test_one_of_another_package_gives_what_the_local_one_gives(self, package, images, tmp_path, capfd):
        model = segcore.create_model("segformer", "resnet18", encoder_depth=4, classes=2)
        model.save_pretrained(tmp_path / "model", preprocessing=HALF)
        package("seg-engine", "[segcore_predict.engines]\nbackwards = seg_engine:run\n", self.CODE)
        (images / "bad.png").write_bytes(b"nothing")
        words = (tmp_path / "model", images, "-o")
        assert exit_code(*words, tmp_path / "one", "--engine", "backwards", "--workers", 2) == 3
        told = capfd.readouterr()
        assert f"Skipped {images / 'bad.png'}: " in told.err
        assert "Predicted 3 of 4 images, 1 failed" in told.out
        assert exit_code(*words, tmp_path / "two") == 3
        written = [
            {path.name: path.read_bytes() for path in (tmp_path / out).iterdir() if path.is_file()}
            for out in ("one", "two")
        ]
        assert written[0] == written[1]
        assert set(written[0]) == {"0.png", "1.png", "2.png", "areas.csv"}
        capfd.readouterr()
        assert exit_code(*words, tmp_path / "one") == 3
        assert "Predicted 0 of 4 images, 3 were there already" in capfd.readouterr().out


class TestBackend:
    @pytest.fixture
    def installed(self, package):
        module = package("seg-back", "[segcore_predict.backends]\nown = seg_back:load\n")
        sys.modules[module] = namespace = type(sys)(module)
        namespace.asked = []

        def load(checkpoint, device, threads):
            namespace.asked.append((checkpoint, device, threads))
            return namespace.model

        namespace.load, namespace.model = load, Module()
        return namespace

    def test_its_module_predicts(self, installed, images, tmp_path):
        words = ("weights.file", images, "-o", tmp_path / "out", "--backend", "own")
        assert exit_code(*words, "--tile", 16, "--overlap", 4, "--threads", 1, "--device", "cpu") == 0
        assert installed.asked == [("weights.file", "cpu", 1)]
        with Image.open(images / "1.png") as picture:
            pixels = np.asarray(picture)
        result = np.asarray(Image.open(tmp_path / "out/1.png"))
        assert np.array_equal(result, (pixels[..., 1] > pixels[..., 0]).astype(np.uint8))
        assert {dtype for _, dtype, _ in installed.model.asked} == {torch.float32}
        assert not any(gradients for _, _, gradients in installed.model.asked)

    def test_its_digest_and_its_name_are_part_of_the_settings(self, installed, images, tmp_path, capfd):
        words = ("weights.file", images, "-o", tmp_path / "out", "--backend", "own")
        assert exit_code(*words) == 0
        assert exit_code(*words) == 0
        assert "3 were there already" in capfd.readouterr().out
        installed.model = Module(digest="another")
        assert exit_code(*words) == 0
        assert "Predicted 3 of 3 images. " in capfd.readouterr().out

    def test_what_is_missing_is_named(self, installed, images, tmp_path, capfd):
        installed.model = torch.nn.Identity()
        assert exit_code("weights.file", images, "-o", tmp_path / "out", "--backend", "own") == 6
        assert "returned Identity, which lacks tile_step, digest, config" in capfd.readouterr().err
        installed.model = Module()
        del installed.model.config["classes"]
        assert exit_code("weights.file", images, "-o", tmp_path / "out", "--backend", "own") == 6
        assert "lacks config['classes']" in capfd.readouterr().err
        installed.model = Module(preprocessing=None)
        assert exit_code("weights.file", images, "-o", tmp_path / "out", "--backend", "own") == 5
        assert not (tmp_path / "out").exists()

    def test_the_functions_take_it_as_they_take_a_model(self):
        model = Module(activation="sigmoid")
        image = np.random.default_rng(0).integers(0, 256, (30, 41, 3), np.uint8)
        labels = predict(model, image)
        assert labels.shape == (2, 30, 41), "several labels, by its activation"
        model.asked.clear()
        assert torch.equal(predict_tiled(model, image, 16, 2), labels)
        assert all(shape[2] in {16, 14} and shape[3] in {16, 13} for shape, _, _ in model.asked), (
            "starts at multiples of 4"
        )
        with pytest.raises(OptionValueError, match="activation="):
            predict(model, image, output="logits")


class TestWorker:
    @pytest.fixture
    def model(self, tmp_path):
        torch.manual_seed(0)
        segcore.create_model("segformer", "resnet18", encoder_depth=4, classes=2).save_pretrained(
            tmp_path / "model", preprocessing=HALF
        )
        return tmp_path / "model"

    def test_one_image_from_end_to_end(self, model, images, tmp_path):
        out = tmp_path / "out"
        worker = Worker(pickle.loads(pickle.dumps(job(model, out))))
        image = find_inputs([str(images)], out)[1]
        assert worker.finished(image) is None
        with workplace(out) as work:
            done = worker.run(image, work)
        assert (done.name, done.size, sum(done.pixels)) == ("1", (32, 24), 24 * 32)
        assert worker.finished(image) == done
        assert np.array_equal(
            np.asarray(Image.open(out / "1.png")), predict(segcore.from_pretrained(model), image.path)
        )

    def test_what_is_wrong_with_an_image_and_what_is_wrong_with_the_place(self, model, images, tmp_path, monkeypatch):
        out = tmp_path / "out"
        worker = Worker(job(model, out))
        (images / "0.png").write_bytes(b"nothing")
        first, second, third = find_inputs([str(images)], out)
        with workplace(out) as work:
            with pytest.raises(InputError, match="^" + str(first.path)):
                worker.run(first, work)
            second.path.unlink()
            with pytest.raises(InputError, match="^" + str(second.path)):
                worker.run(second, work)
            monkeypatch.setattr(Path, "write_bytes", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
            with pytest.raises(OptionValueError, match="No space left"):
                worker.run(third, work)


def test_extensions_are_found_without_torch():
    code = (
        "import sys\nfrom segcore_plugin_predict.extensions import find_engine\n"
        "try: find_engine('absent')\nexcept LookupError: pass\n"
        "assert not {'torch', 'numpy', 'PIL', 'rich'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
