"""What an exported file holds, that it stands alone, and what is refused."""

import json
import stat
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from segcore_plugin_export import ExportError, check, export, onnx_format, operators
from segcore_plugin_export.metadata import Facts

import segcore
from segcore.cli import cli
from segcore.testing import TinyEncoder


def onnx_texts(path):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.get_modelmeta().custom_metadata_map


def tiny(decoder="unet", **options):
    torch.manual_seed(0)
    return segcore.create_model(decoder, TinyEncoder(depth=2), classes=2, **options).eval()


class TestMetadata:
    def test_all_that_a_program_without_segcore_needs(self, onnx_file, model):
        found = {name: json.loads(text) for name, text in onnx_texts(onnx_file.path).items()}
        assert found["segcore.preprocessing"] == model.config["preprocessing"]
        assert found["segcore.class_names"] == ["background", "coin", "shadow"]
        assert (found["segcore.classes"], found["segcore.in_channels"], found["segcore.activation"]) == (3, 3, None)
        assert (found["segcore.output_stride"], found["segcore.tile_step"]) == (4, 4)
        assert found["segcore.image_size"] == [96, 128]
        assert found["segcore.licence"] == "CC0-1.0"
        assert found["segcore.version"] == segcore.__version__
        assert found["segcore.outputs"] == ["mask"]
        assert found["segcore.size_multiple"] == 1

    def test_every_format_holds_the_same(self, onnx_file, openvino_file, torch_file):
        facts = [done.facts for done in (onnx_file, openvino_file, torch_file)]
        common = {"smallest", "weights_sha256"}
        one, two, three = ({k: v for k, v in fact.texts().items() if k[8:] not in common} for fact in facts)
        assert one == two == three
        extra = {"segcore.json": ""}
        torch.export.load(torch_file.path, extra_files=extra)
        assert Facts.read(json.loads(extra["segcore.json"]), "it") == torch_file.facts

    def test_the_file_tells_nothing_of_the_machine(self, onnx_file):
        content = onnx_file.path.read_bytes()
        assert b"segcore_plugin" not in content
        assert b".py" not in content

    def test_inputs_outputs_and_axes_have_names(self, onnx_file):
        session = onnxruntime.InferenceSession(onnx_file.path, providers=["CPUExecutionProvider"])
        (image,), (mask,) = session.get_inputs(), session.get_outputs()
        assert (image.name, image.shape) == ("image", ["batch", 3, "height", "width"])
        assert (mask.name, mask.shape) == ("mask", ["batch", 3, "height", "width"])

    def test_a_file_has_the_usual_mode(self, onnx_file, tmp_path):
        (tmp_path / "usual").touch()
        assert stat.S_IMODE(onnx_file.path.stat().st_mode) == stat.S_IMODE((tmp_path / "usual").stat().st_mode)


class Picky(TinyEncoder):
    """Refuses small images."""

    def forward(self, x):
        if min(x.shape[-2:]) < 29:
            raise segcore.InputError("29 pixels are needed")
        return super().forward(x)


class OneSize(TinyEncoder):
    """Refuses all sizes but one, as networks with fixed windows do."""

    def forward(self, x):
        if tuple(x.shape[-2:]) != (64, 64):
            raise segcore.InputError("built for images of 64 x 64.")
        return super().forward(x)


ALONE = """
import sys
for name in ("segcore", "torch", "onnx", "onnxscript"):
    sys.modules[name] = None
import json
import numpy as np
import onnxruntime

file, images, target = sys.argv[1:]
session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
texts = session.get_modelmeta().custom_metadata_map
how = json.loads(texts["segcore.preprocessing"])
image = np.load(images).astype(np.float32) / 255
if how["input_space"] == "BGR":
    image = image[..., ::-1]
low, high = how["input_range"]
image = (image * (high - low) + low - np.float32(how["mean"])) / np.float32(how["std"])
(mask,) = session.run(None, {"image": image.transpose(0, 3, 1, 2).astype(np.float32)})
np.save(target, mask)
"""


def test_onnxruntime_and_the_metadata_are_enough(onnx_file, model, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (2, 70, 90, 3), np.uint8)
    np.save(tmp_path / "images.npy", images)
    arguments = [onnx_file.path, tmp_path / "images.npy", tmp_path / "mask.npy"]
    done = subprocess.run([sys.executable, "-c", ALONE, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    wanted = model.predict(segcore.preprocessing(model)(images)).numpy()
    np.testing.assert_allclose(np.load(tmp_path / "mask.npy"), wanted, atol=1e-4 * np.abs(wanted).max())


class TestCheck:
    def test_a_program_that_deviates_is_not_kept(self, tmp_path, monkeypatch):
        right, op = operators._cells, operators.op

        def wrong(length, count):
            return op.Mul(right(length, count), op.Constant(value_float=1.01))

        monkeypatch.setattr(operators, "_cells", wrong)
        monkeypatch.setattr(onnx_format, "PLANS", onnx_format.PLANS[:1])
        path = tmp_path / "model.onnx"
        path.write_text("old")
        with pytest.raises(ExportError, match=r"pspnet with None cannot be exported: for images of \d x \d+ x \d+ it"):
            export(tiny("pspnet", decoder_psp_channels=8), path)
        assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
        assert path.read_text() == "old"

    def test_comparisons_see_what_differs(self):
        from segcore_plugin_export.program import subject_of

        subject = subject_of(tiny(), None)

        def run(images):
            with torch.no_grad():
                return [subject.network(torch.from_numpy(images)).numpy().copy()]

        def one(change):
            return check.compare(subject, lambda images: [change(run(images)[0])], [(1, (8, 8))])[0]

        assert one(lambda mask: mask).deviation == 0
        assert one(lambda mask: mask + np.abs(mask).max() / 100).deviation == pytest.approx(0.01, rel=1e-3)
        assert one(lambda mask: mask[:, ::-1]).labels == 64
        assert one(lambda mask: mask[..., :-1]).problem.startswith("shapes")
        assert one(lambda mask: mask * np.nan).deviation == float("inf")
        assert one(lambda mask: 1 / 0).problem == "ZeroDivisionError: division by zero"

    def test_images_that_are_too_small_are_found_out(self, tmp_path):
        model = segcore.create_model("unet", Picky(depth=2), classes=2).eval()
        done = export(model, tmp_path / "model.pt2")
        assert done.facts.smallest == 32
        assert done.sizes == "any size from 32 x 32"


class TestOptions:
    def test_masks_and_labels_and_activations(self, tmp_path):
        model = tiny(activation="sigmoid", aux_params={"classes": 5})
        done = export(model, tmp_path / "model.onnx")
        assert done.facts.outputs == ["mask", "label"]
        assert done.facts.activation == "sigmoid"
        session = onnxruntime.InferenceSession(done.path, providers=["CPUExecutionProvider"])
        x = torch.randn(3, 3, 41, 50)
        for one, two in zip(session.run(None, {"image": x.numpy()}), model.predict(x), strict=True):
            np.testing.assert_allclose(one, two, atol=1e-4)

    def test_other_dtypes_are_exported_as_float32(self, tmp_path):
        model = tiny().to(torch.bfloat16)
        export(model, tmp_path / "model.pt2")
        assert model.decoder.blocks[0].conv1[0].weight.dtype == torch.bfloat16
        assert torch.export.load(tmp_path / "model.pt2").module()(torch.zeros(1, 3, 33, 40)).dtype == torch.float32

    @pytest.mark.parametrize(
        ("file", "options", "says"),
        [
            ("model.bin", {}, r"one of 'onnx' \(.onnx\), 'torch-export' \(.pt2\), 'openvino' \(.xml\)"),
            ("model.onnx", {"format": "onx"}, "format='onx'"),
            ("model.onnx", {"format": "openvino"}, "'openvino' ends in .xml, got 'model.onnx'"),
            ("model.onnx", {"tolerance": 0}, "tolerance=0"),
        ],
    )
    def test_what_cannot_be(self, tmp_path, file, options, says):
        with pytest.raises(segcore.OptionValueError, match=says):
            export(tiny(), tmp_path / file, **options)

    def test_networks_of_one_size_say_so(self, tmp_path):
        model = segcore.create_model("unet", OneSize(depth=2), classes=1).eval()
        with pytest.raises(segcore.OptionValueError, match=r"built for images of 64 x 64.*--size HxW"):
            export(model, tmp_path / "model.pt2")
        with pytest.raises(segcore.OptionValueError, match="Choose another size"):
            export(model, tmp_path / "model.pt2", size=(32, 64))
        assert export(model, tmp_path / "model.pt2", size=(64, 64)).sizes == "64 x 64"

    def test_activations_without_a_name(self, tmp_path):
        with pytest.raises(segcore.OptionValueError, match="cannot be described in a file"):
            export(tiny(activation=torch.tanh), tmp_path / "model.onnx")

    @pytest.mark.parametrize(
        ("file", "library", "extra"),
        [("m.onnx", "onnxruntime", "onnx"), ("m.onnx", "onnxscript", "onnx"), ("m.xml", "openvino", "openvino")],
    )
    def test_missing_libraries_are_named(self, tmp_path, monkeypatch, file, library, extra):
        monkeypatch.setitem(sys.modules, library, None)
        with pytest.raises(ExportError, match=rf"{library} is needed.*'segcore-plugin-export\[{extra}\]'"):
            export(tiny(), tmp_path / file)


def test_the_command(checkpoint, tmp_path):
    words = ["export", str(checkpoint), "-o", str(tmp_path / "model.pt2"), "--licence", "MIT"]
    result = CliRunner().invoke(cli, words, standalone_mode=False)
    assert result.exception is None, result.exception
    lines = result.output.splitlines()
    assert lines[0].split() == ["images", "deviation", "other", "labels"]
    assert f"Wrote {tmp_path / 'model.pt2'} (torch-export): any size from" in lines[-1]
    assert (tmp_path / "model.pt2").is_file()
    wrong = CliRunner().invoke(cli, [*words, "--size", "512"])
    assert wrong.exit_code == 2
    assert "height and width are needed, such as 512x512" in wrong.output
