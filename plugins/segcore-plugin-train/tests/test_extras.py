"""What is optional, with the real packages: TensorBoard, datasets, and torch.compile."""

from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file
from segcore_plugin_train import SegmentationData, Settings, engine, keeper, state, train
from segcore_plugin_train.log import read_log
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from segcore import OptionValueError
from segcore.cli import cli


def quietly(**fields):
    return train(Settings(**fields), tell=lambda line: None)


def scalars(out):
    """Return the points (step, value) of each tag that TensorBoard shows for a run."""
    events = EventAccumulator(str(Path(out) / "tensorboard")).Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def logged(out):
    """Return the same of ``log.csv``."""
    rows = read_log(Path(out) / "log.csv")
    tags = ("lr", "loss", "val_loss", "val_iou")
    return {tag: [(int(row["step"]), float(row[tag])) for row in rows if row[tag]] for tag in tags}


def same(found, expected):
    assert found.keys() == expected.keys()
    for tag, points in expected.items():
        assert [step for step, _ in found[tag]] == [step for step, _ in points], tag
        assert [value for _, value in found[tag]] == pytest.approx([value for _, value in points], rel=1e-5), tag


class TestTensorBoard:
    def test_it_shows_what_the_log_says(self, small):
        quietly(**small)
        expected = logged(small["out"])
        assert [step for step, _ in expected["loss"]] == list(range(1, 7))
        assert [step for step, _ in expected["val_iou"]] == [2, 4, 6]
        same(scalars(small["out"]), expected)

    def test_a_run_that_goes_on_shows_each_step_once(self, small, monkeypatch):
        step = keeper.Keeper.on_train_batch_end

        def dies(self, trainer, module, *rest):
            step(self, trainer, module, *rest)
            if module.step == 5:
                raise LookupError("the power is gone")

        monkeypatch.setattr(keeper.Keeper, "on_train_batch_end", dies)
        fields = small | {"save_every": 3}
        with pytest.raises(LookupError, match="the power is gone"):
            quietly(**fields)
        assert state.load_state(Path(small["out"]) / state.NAME).step == 4
        assert logged(small["out"])["loss"][-1][0] == 5
        monkeypatch.undo()
        quietly(**fields, resume=True)
        expected = logged(small["out"])
        assert [step for step, _ in expected["loss"]] == list(range(1, 7))
        same(scalars(small["out"]), expected)

    def test_without_it_the_run_says_so(self, small, monkeypatch):
        def missing(*args, **options):
            raise ModuleNotFoundError("Neither `tensorboard` nor `tensorboardX` is available.")

        monkeypatch.setattr(engine, "TensorBoardLogger", missing)
        lines = []
        train(Settings(**small), tell=lines.append)
        assert any("TensorBoard is not installed" in line for line in lines)
        assert not (Path(small["out"]) / "tensorboard").exists()
        assert logged(small["out"])["val_iou"]


@pytest.fixture
def hugging(shapes, tmp_path, monkeypatch):
    """The small set as a dataset with two splits."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    paths = sorted(path.name for path in (shapes / "images").iterdir())

    def split(names):
        columns = {
            "picture": [str(shapes / "images" / name) for name in names],
            "truth": [str(shapes / "masks" / name) for name in names],
        }
        features = datasets.Features({"picture": datasets.Image(), "truth": datasets.Image()})
        return datasets.Dataset.from_dict(columns, features)

    return datasets.DatasetDict({"train": split(paths[:9]), "test": split(paths[9:])})


class TestHuggingFace:
    columns = {"image_column": "picture", "mask_column": "truth"}

    def test_a_split_in_memory_is_the_same_as_the_files(self, hugging, shapes):
        data = SegmentationData.from_dataset(
            hugging["train"], val=hugging["test"], classes=4, crop=32, batch_size=3, workers=1, **self.columns
        )
        assert len(data.train_indices) == 9
        assert len(data.val_indices) == 3
        data.check()
        for index in range(9):
            assert np.array_equal(
                data.train_source.image(index, data.reading), np.asarray(Image.open(shapes / f"images/{index:03}.png"))
            )
            assert np.array_equal(
                data.train_source.mask(index, data.reading), np.asarray(Image.open(shapes / f"masks/{index:03}.png"))
            )
        images, labels = next(iter(data.train_dataloader()))
        assert (images.shape, labels.shape) == ((3, 3, 32, 32), (3, 32, 32))

    @pytest.mark.parametrize("how", ["parquet", "disk"])
    def test_a_run_by_the_command_on_a_folder(self, hugging, small, tmp_path, how):
        folder = tmp_path / "set"
        if how == "disk":
            hugging.save_to_disk(folder)
        else:
            for name, split in hugging.items():
                split.to_parquet(folder / f"{name}-00000.parquet")
        fields = {key: value for key, value in small.items() if key not in {"images", "masks", "option", "threads"}}
        words = [word for name, value in fields.items() for word in ("--" + name.replace("_", "-"), str(value))]
        words += ["--option", "encoder_depth=2", "--option", "decoder_channels=[16, 16]", "--threads", "1"]
        words += ["--image-column", "picture", "--mask-column", "truth", "--dataset", str(folder)]
        result = CliRunner().invoke(cli, ["train", *words, "--dataset-val-split", "test"], catch_exceptions=False)
        assert result.exit_code == 0
        assert "9 images to train on, 3 to validate with" in result.output
        assert "/test[0]" in (Path(small["out"]) / "best.json").read_text()

    def test_what_a_folder_does_not_have_is_told(self, hugging, tmp_path):
        hugging.save_to_disk(tmp_path / "both")
        hugging["train"].save_to_disk(tmp_path / "one")
        (tmp_path / "empty").mkdir()
        for name, split, text in (
            ("both", "validation", "no split 'validation'; there is train, test"),
            ("one", "test", "no split 'test'; there is train"),
            ("empty", "train", "split 'train': .*any data files"),
            ("none", "train", "split 'train': .*none"),
        ):
            with pytest.raises(OptionValueError, match=text):
                SegmentationData.from_dataset(str(tmp_path / name), split=split, classes=4, **self.columns)
        with pytest.raises(OptionValueError, match="no column 'image'; there are picture, truth"):
            SegmentationData.from_dataset(str(tmp_path / "one"), classes=4)
        data = SegmentationData.from_dataset(str(tmp_path / "one"), classes=4, **self.columns)
        assert len(data.train_indices) + len(data.val_indices) == 9


def weights(out):
    return load_file(Path(out) / "last" / "model.safetensors")


@pytest.fixture
def forgotten():
    """Forget what other tests compiled: beyond some graphs of one function torch no longer compiles it."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("forgotten")
class TestCompile:
    def test_the_steps_go_through_compiled_graphs(self, small, tmp_path, monkeypatch):
        graphs = []

        def backend(graph, _inputs):
            calls = []
            graphs.append((graph, calls))

            def run(*arguments):
                calls.append(torch.is_grad_enabled())
                return graph(*arguments)

            return run

        compile_with = torch.compile
        monkeypatch.setattr(torch, "compile", lambda function, **options: compile_with(function, backend=backend))
        quietly(**small, compile=True)
        nodes = [str(node.target) for graph, _ in graphs for node in graph.graph.nodes]
        assert sum("conv2d" in node for node in nodes) > 5
        assert sum(sum(calls) for _, calls in graphs) == 6  # training steps; validation runs without gradients
        before = len(graphs)
        quietly(**small | {"out": str(tmp_path / "eager")})
        assert len(graphs) == before
        for name, value in weights(tmp_path / "eager").items():
            torch.testing.assert_close(value, weights(small["out"])[name], rtol=1e-3, atol=1e-5, msg=name)

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")  # torch's own use
    def test_a_run_with_the_real_compiler(self, small, tmp_path):
        quietly(**small, compile=True)
        assert torch._dynamo.utils.counters["inductor"]
        quietly(**small | {"out": str(tmp_path / "eager")})
        for name, value in weights(tmp_path / "eager").items():
            torch.testing.assert_close(value, weights(small["out"])[name], rtol=1e-2, atol=1e-3, msg=name)
