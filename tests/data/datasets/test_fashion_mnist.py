from __future__ import annotations

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest

from gluondense.data import DATASETS, load_dataset
from gluondense.data.datasets import fashion_mnist


def idx_bytes(array: np.ndarray) -> bytes:
    return (
        bytes([0, 0, 8, array.ndim])
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.tobytes()
    )


@pytest.fixture
def contents(monkeypatch) -> dict[str, bytes]:
    """Return the decompressed files of a small data set that replaces the official one."""
    rng = np.random.RandomState(0)
    result, rows = {}, []
    for row in fashion_mnist.FILES:
        shape = (row.shape[0] // 1000, *row.shape[1:])
        content = idx_bytes(rng.randint(0, 10, shape).astype(np.uint8))
        result[row.name] = content
        sha256 = hashlib.sha256(content).hexdigest()
        rows.append(row._replace(shape=shape, sha256=sha256))
    monkeypatch.setattr(fashion_mnist, "FILES", tuple(rows))
    return result


def write_all(folder: Path, contents: dict[str, bytes], gzipped: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        if gzipped:
            (folder / (name + ".gz")).write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)


def load_error(folder: Path) -> str:
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        fashion_mnist.load(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


@pytest.mark.parametrize("gzipped", [True, False])
@pytest.mark.parametrize("subfolder", ["", "raw"])
def test_reads_all_layouts(tmp_path, contents, gzipped, subfolder):
    write_all(tmp_path / subfolder, contents, gzipped)
    train_images, train_labels, test_images, test_labels = fashion_mnist.load(tmp_path)
    assert train_images.shape == (60, 28, 28, 1)
    assert test_images.shape == (10, 28, 28, 1)
    assert train_images.dtype == np.uint8
    assert train_labels.dtype == test_labels.dtype == np.int32
    assert train_images.tobytes() == contents["train-images-idx3-ubyte"][16:]
    assert test_labels.tolist() == list(contents["t10k-labels-idx1-ubyte"][8:])


def test_names_a_missing_folder_and_missing_files(tmp_path, contents):
    assert "no folder" in load_error(tmp_path / "nowhere")
    message = load_error(tmp_path)
    assert all(row.name in message for row in fashion_mnist.FILES)
    assert "`data_dir`" in message
    write_all(tmp_path, contents)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    assert "lacks t10k-labels-idx1-ubyte.gz;" in load_error(tmp_path)


@pytest.mark.parametrize("name", [row.name for row in fashion_mnist.FILES])
@pytest.mark.parametrize("gzipped", [True, False])
def test_names_a_truncated_file(tmp_path, contents, name, gzipped):
    write_all(tmp_path, contents, gzipped)
    path = tmp_path / (name + ".gz" * gzipped)
    path.write_bytes(path.read_bytes()[:-9])
    assert f"{name}{'.gz' * gzipped} is truncated" in load_error(tmp_path)


def test_names_a_file_that_is_no_idx_file(tmp_path, contents):
    write_all(tmp_path, contents)
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(b"<!DOCTYPE html>")
    assert "train-labels-idx1-ubyte.gz is not an idx file" in load_error(tmp_path)


def test_names_swapped_files(tmp_path, contents):
    write_all(tmp_path, contents)
    train, test = (tmp_path / f"{part}-images-idx3-ubyte.gz" for part in ("train", "t10k"))
    train_content = train.read_bytes()
    train.write_bytes(test.read_bytes())
    test.write_bytes(train_content)
    message = load_error(tmp_path)
    assert "train-images-idx3-ubyte.gz has the content of t10k-images-idx3-ubyte" in message


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(59, np.uint8), r"has an array (59,) where Fashion-MNIST has (60,)"),
        (np.full(60, 10, np.uint8), "has the label 10 where Fashion-MNIST has 0 to 9"),
        (np.zeros(60, np.uint8), "is not Fashion-MNIST's: its content has SHA-256"),
    ],
)
def test_names_a_sound_file_with_other_content(tmp_path, contents, array, message):
    contents["train-labels-idx1-ubyte"] = idx_bytes(array)
    write_all(tmp_path, contents)
    assert "train-labels-idx1-ubyte.gz " + message in load_error(tmp_path)


def test_without_download_the_cache_must_be_complete(tmp_path, contents, monkeypatch):
    with pytest.raises(FileNotFoundError, match="`data_dir`"):
        fashion_mnist.load(download=False, root=tmp_path)
    write_all(tmp_path / "fashion-mnist", contents)
    assert len(fashion_mnist.load(download=False, root=tmp_path)) == 4
    monkeypatch.setenv("MXNET_HOME", str(tmp_path))
    write_all(tmp_path / "datasets" / "fashion-mnist", contents)
    assert len(fashion_mnist.load(download=False)) == 4


@pytest.fixture
def mirror(server, contents, monkeypatch):
    """Make a folder of the server the only source of the data set."""
    monkeypatch.setattr(fashion_mnist, "MIRRORS", (server.url + "/data/",))
    for name, content in contents.items():
        server.pages[f"/data/{name}.gz"] = gzip.compress(content)
    return server


def test_downloads_what_the_cache_lacks_or_has_damaged(tmp_path, mirror):
    first = fashion_mnist.load(root=tmp_path)
    assert mirror.paths == [f"/data/{row.name}.gz" for row in fashion_mnist.FILES]
    damaged = tmp_path / "fashion-mnist" / "train-labels-idx1-ubyte.gz"
    damaged.write_bytes(damaged.read_bytes()[:-5])
    again = fashion_mnist.load(root=tmp_path)
    assert mirror.paths[4:] == ["/data/train-labels-idx1-ubyte.gz"]
    for array, other in zip(first, again):
        np.testing.assert_array_equal(array, other)


def test_a_mirror_of_ones_own_is_asked_first(tmp_path, mirror, monkeypatch):
    monkeypatch.setenv("GLUONDENSE_MIRROR", mirror.url + "/own")
    name = f"{fashion_mnist.FILES[0].name}.gz"
    mirror.pages[f"/own/{name}"] = mirror.pages[f"/data/{name}"]
    fashion_mnist.load(root=tmp_path)
    assert mirror.paths[:3] == [
        f"/own/{name}",
        *(f"/{place}/{fashion_mnist.FILES[1].name}.gz" for place in ("own", "data")),
    ]


def test_what_is_no_archive_is_not_kept(tmp_path, mirror):
    mirror.pages["/data/t10k-images-idx3-ubyte.gz"] = b"<html>log in</html>"
    with pytest.raises(
        ConnectionError, match=r"t10k-images-idx3-ubyte\.gz .*web page.*`data_dir`$"
    ):
        fashion_mnist.load(root=tmp_path)
    assert not list((tmp_path / "fashion-mnist").glob("t10k-images*"))


@pytest.mark.parametrize("offline", ["", "1"])
def test_without_a_network_data_dir_is_named(tmp_path, refused_url, monkeypatch, offline):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("GLUONDENSE_OFFLINE", offline)
    monkeypatch.setattr(fashion_mnist, "MIRRORS", (refused_url + "/",))
    with pytest.raises(ConnectionError, match=r"train-images-idx3-ubyte\.gz .*`data_dir`$"):
        fashion_mnist.load(root=tmp_path)


def test_real_files(fashion_mnist_dir):
    arrays = load_dataset("fashion_mnist", fashion_mnist_dir)
    assert arrays.train_images.shape == (60000, 28, 28, 1)
    assert arrays.test_images.shape == (10000, 28, 28, 1)
    assert (np.bincount(arrays.train_labels) == 6000).all()
    assert (np.bincount(arrays.test_labels) == 1000).all()
    pixels = arrays.train_images / np.float32(255)
    assert arrays.info.mean == pytest.approx([pixels.mean(dtype=np.float64)], abs=1e-5)
    assert arrays.info.std == pytest.approx([pixels.std(dtype=np.float64)], abs=1e-5)
    # The first training images, as zalando's README shows them.
    names = [DATASETS["fashion_mnist"].class_names[label] for label in arrays.train_labels[:3]]
    assert names == ["Ankle boot", "T-shirt/top", "T-shirt/top"]


def test_one_changed_pixel_of_the_real_files_is_seen(tmp_path, fashion_mnist_dir):
    for row in fashion_mnist.FILES:
        content = gzip.decompress((fashion_mnist_dir / (row.name + ".gz")).read_bytes())
        if row.name == "t10k-images-idx3-ubyte":
            content = content[:-1] + bytes([content[-1] ^ 1])
        (tmp_path / row.name).write_bytes(content)
    assert "t10k-images-idx3-ubyte is not Fashion-MNIST's" in load_error(tmp_path)
