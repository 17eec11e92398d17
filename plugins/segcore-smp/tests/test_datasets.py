"""The pet dataset, made small: read as SMP reads it, fetched through a checked path."""

import functools
import hashlib
import http.server
import inspect
import io
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
import segcore_smp
import segmentation_models_pytorch as smp
import torch
from PIL import Image
from segcore_smp.datasets import _fetch, oxford_pet

import segcore

NAMES = ("OxfordPetDataset", "SimpleOxfordPetDataset")


def write_dataset(root):
    rng = np.random.default_rng(0)
    (root / "images").mkdir(parents=True)
    (root / "annotations" / "trimaps").mkdir(parents=True)
    names = [f"Cat_{i}" for i in range(12)]
    for i, name in enumerate(names):
        size = (40 + i, 30 + i)
        kind = "L" if i == 1 else "RGB"
        pixels = rng.integers(0, 256, size if kind == "L" else (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{name}.jpg")
        Image.fromarray(rng.integers(1, 4, size, dtype=np.uint8)).save(root / "annotations" / "trimaps" / f"{name}.png")
    (root / "annotations" / "trainval.txt").write_text("".join(f"{name} 1 1 1\n" for name in names))
    (root / "annotations" / "test.txt").write_text("".join(f"{name} 1 1 1\n" for name in names[:3]))
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("pets") / "data")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mode", ["train", "valid", "test"])
def test_samples(root, name, mode):
    theirs, ours = (getattr(library.datasets, name)(str(root), mode) for library in (smp, segcore_smp))
    assert vars(theirs) == vars(ours)
    assert len(theirs) == len(ours) > 0
    for i in range(len(ours)):
        a, b = theirs[i], ours[i]
        assert list(a) == list(b)
        for key in a:
            assert (a[key].dtype, a[key].shape) == (b[key].dtype, b[key].shape)
            assert np.array_equal(a[key], b[key])
    assert isinstance(ours, torch.utils.data.Dataset)


def test_transform_and_loader(root):
    def flipped(image, mask, trimap):
        return {"image": image[:, ::-1].copy(), "mask": mask, "trimap": trimap}

    theirs, ours = (library.datasets.OxfordPetDataset(root, transform=flipped)[0] for library in (smp, segcore_smp))
    assert np.array_equal(theirs["image"], ours["image"])
    loader = torch.utils.data.DataLoader(segcore_smp.datasets.SimpleOxfordPetDataset(root), batch_size=4)
    batch = next(iter(loader))
    assert batch["image"].shape == (4, 3, 256, 256)
    assert batch["mask"].shape == batch["trimap"].shape == (4, 1, 256, 256)
    mask = np.array([[1, 2, 3, 0, 7]], dtype=np.uint8)
    a, b = (library.datasets.OxfordPetDataset._preprocess_mask(mask) for library in (smp, segcore_smp))
    assert np.array_equal(a, b)
    assert a.dtype == b.dtype


def test_signatures_and_errors(tmp_path, root):
    for name in NAMES:
        theirs, ours = getattr(smp.datasets, name), getattr(segcore_smp.datasets, name)
        assert inspect.signature(theirs) == inspect.signature(ours)
        assert inspect.signature(theirs.download) == inspect.signature(ours.download)
    for library in (smp, segcore_smp):
        with pytest.raises(AssertionError):
            library.datasets.OxfordPetDataset(root, "validation")
        with pytest.raises(FileNotFoundError):
            library.datasets.OxfordPetDataset(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"SimpleOxfordPetDataset\.download\('"):
        segcore_smp.datasets.SimpleOxfordPetDataset(tmp_path)


def test_importing_fetches_nothing():
    code = """
import socket, sys
def refused(*args, **kwargs):
    raise AssertionError("a request")
socket.socket.connect = socket.create_connection = refused
import segcore_smp.datasets
assert "timm" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


class Server(http.server.SimpleHTTPRequestHandler):
    seen = []

    def do_GET(self):
        self.seen.append(self.path)
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "ftp://127.0.0.1:9/secret")
            self.end_headers()
        elif self.path == "/short":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"x" * 10)
        else:
            super().do_GET()

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path, root, monkeypatch):
    published = tmp_path / "published"
    published.mkdir()
    for name in ("images", "annotations"):
        with tarfile.open(published / f"{name}.tar.gz", "w:gz") as archive:
            archive.add(root / name, name)
    Server.seen = []
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Server, directory=str(published)))
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    sums = {file.name: hashlib.md5(file.read_bytes()).hexdigest() for file in published.iterdir()}
    monkeypatch.setattr(oxford_pet, "URL", f"http://127.0.0.1:{httpd.server_port}/")
    monkeypatch.setattr(oxford_pet, "MD5", {name: sums[name] for name in oxford_pet.MD5})
    monkeypatch.setattr(_fetch, "SCHEMES", ("http",))
    monkeypatch.delenv("SEGCORE_OFFLINE", raising=False)
    yield oxford_pet.URL
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def test_download(server, tmp_path, root):
    target = tmp_path / "pets"
    segcore_smp.datasets.SimpleOxfordPetDataset.download(str(target))
    assert len(segcore_smp.datasets.SimpleOxfordPetDataset(target, "test")) == 3
    assert Server.seen == ["/images.tar.gz", "/annotations.tar.gz"]
    assert not [file for file in target.rglob("*") if ".part" in file.name]
    (target / "images" / "Cat_3.jpg").write_bytes(b"broken off")
    (target / "images" / "Cat_4.jpg").unlink()
    segcore_smp.datasets.OxfordPetDataset.download(target)
    assert len(Server.seen) == 2
    for i in (3, 4):
        name = f"images/Cat_{i}.jpg"
        assert (target / name).read_bytes() == (root / name).read_bytes()


def test_a_wrong_checksum(server, tmp_path, monkeypatch):
    monkeypatch.setitem(oxford_pet.MD5, "images.tar.gz", "0" * 32)
    with pytest.raises(segcore.WeightsError, match="checksum"):
        segcore_smp.datasets.OxfordPetDataset.download(tmp_path / "pets")
    assert list((tmp_path / "pets").iterdir()) == []


def test_what_is_not_fetched(server, tmp_path, monkeypatch):
    with pytest.raises(segcore.WeightsError, match=r"10 of 100|ended|IncompleteRead") as caught:
        _fetch.download_url(f"{server}short", tmp_path / "short")
    assert "Try again" in str(caught.value)
    assert not (tmp_path / "short").exists()
    with pytest.raises(OSError, match="404"):
        _fetch.download_url(f"{server}missing", tmp_path / "missing")
    monkeypatch.setenv("SEGCORE_OFFLINE", "1")
    with pytest.raises(OSError, match="SEGCORE_OFFLINE"):
        _fetch.download_url(f"{server}images.tar.gz", tmp_path / "x")
    monkeypatch.delenv("SEGCORE_OFFLINE")
    monkeypatch.setattr(_fetch, "SCHEMES", ("https",))
    for url in (server, "file:///etc/passwd", "ftp://example.org/x"):
        with pytest.raises(segcore.InputError, match="https"):
            _fetch.download_url(url, tmp_path / "x")
    assert [file.name for file in tmp_path.iterdir()] == ["published"]


def test_redirects_are_looked_at_before_they_are_followed(server, tmp_path):
    with pytest.raises(segcore.InputError, match="ftp://127.*refused"):
        _fetch.download_url(f"{server}away", tmp_path / "x")
    assert Server.seen == ["/away"]


def test_archives_stay_in_their_folder(tmp_path):
    def packed(name, member):
        path = tmp_path / "inner" / f"{name}.tar.gz"
        path.parent.mkdir(exist_ok=True)
        with tarfile.open(path, "w:gz") as archive:
            member.size = 4 if member.isfile() else 0
            archive.addfile(member, io.BytesIO(b"evil"))
        return path

    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc"
    for name, member in (("up", tarfile.TarInfo("../evil")), ("link", link)):
        with pytest.raises(tarfile.FilterError):
            _fetch.extract_archive(packed(name, member))
    device = tarfile.TarInfo("device")
    device.type = tarfile.CHRTYPE
    with pytest.raises(tarfile.FilterError):
        _fetch.extract_archive(packed("device", device))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["inner"]
    _fetch.extract_archive(packed("good", tarfile.TarInfo("folder/file")))
    assert Path(tmp_path, "inner", "folder", "file").read_bytes() == b"evil"
