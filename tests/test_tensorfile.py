import json
import os
import stat

import pytest
import torch
from safetensors.torch import load_file, save_file

from segcore.tensorfile import TensorFile, TensorFileError, replacing, write_tensors

DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
]


def raw(header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def one(**changes):
    return {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes}


def test_reads_what_safetensors_writes(tmp_path):
    tensors = {f"t{i}": (torch.rand(3, i + 1) * 9).to(dtype) for i, dtype in enumerate(DTYPES)}
    tensors |= {"empty": torch.zeros(0, 4), "scalar": torch.tensor(3.0)}
    save_file(tensors, tmp_path / "x.safetensors", metadata={"a": "b"})
    file = TensorFile(tmp_path / "x.safetensors")
    assert file.metadata == {"a": "b"}
    got = file.tensors()
    assert got.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert got[name].dtype == tensor.dtype
        assert torch.equal(got[name], tensor)


def test_safetensors_reads_what_we_write(tmp_path):
    tensors = {f"t{i}": (torch.rand(3, i + 1) * 9).to(dtype) for i, dtype in enumerate(DTYPES)}
    tensors |= {"empty": torch.zeros(0, 4), "scalar": torch.tensor(3.0), "turned": torch.rand(4, 6).T}
    write_tensors(tmp_path / "x.safetensors", tensors, {"a": "b"})
    for got in (load_file(tmp_path / "x.safetensors"), TensorFile(tmp_path / "x.safetensors").tensors()):
        assert got.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert got[name].dtype == tensor.dtype
            assert torch.equal(got[name], tensor)


def test_what_we_write_is_mapped_where_torch_wants_it(tmp_path):
    tensors = {
        "a": torch.ones(3),
        "b": torch.rand(16, 4),
        "counter": torch.tensor(1),
        "c": torch.rand(32),
        "d": torch.rand(5),
    }
    write_tensors(tmp_path / "x.safetensors", tensors, {})
    for name, tensor in TensorFile(tmp_path / "x.safetensors").tensors().items():
        assert tensor.data_ptr() % 64 == 0, name


def test_tensors_are_mapped_and_writing_leaves_the_file_alone(tmp_path):
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"a": torch.ones(32)}, {})
    before = path.read_bytes()
    tensor = TensorFile(path).tensors()["a"]
    tensor.add_(1)
    assert torch.equal(tensor, torch.full((32,), 2.0))
    assert path.read_bytes() == before
    path.unlink()
    assert tensor.sum() == 64  # the map outlives the name


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "cut off"),
        (b"1234", "cut off"),
        ((10**9).to_bytes(8, "little") + b"{}", "cut off"),
        ((2**64 - 1).to_bytes(8, "little"), "cut off"),
        (raw(b"nonsense"), "no JSON"),
        (raw(b"[]"), "no JSON object"),
        (raw(b"[" * 100_000), "no JSON"),
        (raw(b"\xff\xfe"), "no JSON"),
        (raw(b'{"a": NaN}'), "NaN"),
        (
            raw(
                b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
                bytes(8),
            ),
            "twice",
        ),
        (raw({"__metadata__": {"a": 1}}), "metadata"),
        (raw({"__metadata__": []}), "metadata"),
        (raw({"a": 1}), "exactly"),
        (raw(one(extra=1), bytes(8)), "exactly"),
        (raw(one(dtype="F33"), bytes(8)), "dtype"),
        (raw(one(dtype=["F32"]), bytes(8)), "dtype"),
        (raw(one(shape=[-2]), bytes(8)), "shape"),
        (raw(one(shape=[2.0]), bytes(8)), "shape"),
        (raw(one(shape=[True, 2]), bytes(8)), "shape"),
        (raw(one(shape=[2**62, 2**62]), bytes(8)), "cannot have"),
        (raw(one(shape=[2**63]), bytes(8)), "shape"),
        (raw(one(shape=[1] * 17), bytes(8)), "shape"),
        (raw(one(data_offsets=[0]), bytes(8)), "offsets"),
        (raw(one(data_offsets=[8, 0]), bytes(8)), "cannot have"),
        (raw(one(data_offsets=[0, 4]), bytes(8)), "cannot have"),
        (raw(one(data_offsets=[4, 12]), bytes(12)), "begins at byte 4"),
        (raw(one(), bytes(4)), "the file holds 4"),
        (raw(one(), bytes(12)), "the file holds 12"),
        (raw(one() | {"b": one()["a"]}, bytes(8)), "begins at byte 0"),
    ],
)
def test_malformed_files_are_refused(tmp_path, content, says):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(TensorFileError, match=says):
        TensorFile(path)


def test_a_huge_header_is_not_read(tmp_path):
    path = tmp_path / "bad.safetensors"
    with path.open("wb") as file:
        file.write((17 * 2**20).to_bytes(8, "little"))
        file.truncate(20 * 2**20)
    with pytest.raises(TensorFileError, match="at most"):
        TensorFile(path)


def test_special_files_are_refused_and_nothing_waits(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(TensorFileError, match="regular"):
        TensorFile(tmp_path / "fifo")
    with pytest.raises((TensorFileError, OSError)):
        TensorFile(tmp_path)


def test_every_truncation_is_noticed(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.rand(3), "b": torch.rand(2)}, path)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(TensorFileError):
            TensorFile(path)


def test_misaligned_tensors_are_copied(tmp_path):
    header = {
        "a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
        "b": {"dtype": "F32", "shape": [2], "data_offsets": [1, 9]},
    }
    path = tmp_path / "x.safetensors"
    path.write_bytes(raw(header, b"\x07" + torch.tensor([1.0, 2.0]).numpy().tobytes()))
    assert torch.equal(TensorFile(path).tensors()["b"], torch.tensor([1.0, 2.0]))


class TestReplacing:
    def test_keeps_the_old_file_on_an_exception_and_leaves_no_litter(self, tmp_path):
        path = tmp_path / "x"
        path.write_text("old")
        with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]

    def test_modes(self, tmp_path):
        path = tmp_path / "x"
        write_tensors(path, {"a": torch.ones(1)}, {})
        mask = os.umask(0)
        os.umask(mask)
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
        path.chmod(0o640)
        write_tensors(path, {"a": torch.ones(2)}, {})
        assert stat.S_IMODE(path.stat().st_mode) == 0o640

    @pytest.mark.parametrize("call", ["os.fsync", "pathlib.Path.replace", "pathlib.Path.chmod"])
    def test_a_failing_call_leaves_the_old_file(self, tmp_path, monkeypatch, call):
        path = tmp_path / "x"
        write_tensors(path, {"a": torch.ones(1)}, {})
        before = path.read_bytes()

        def fail(*_, **__):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(call, fail)
            with pytest.raises(OSError, match="No space"):
                write_tensors(path, {"a": torch.ones(2)}, {})
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]
