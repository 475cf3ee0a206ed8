"""Weights in the package: their files, rows, and networks that load them without a network."""

from __future__ import annotations

import dataclasses
import re

import mxnet as mx
import pytest

import gluondense
from gluondense.commands import export
from gluondense.data.datasets.registry import DATASETS
from gluondense.data.preprocessing import Preprocessing
from gluondense.files import sha256
from gluondense.weights import WEIGHTS, Weights, fetch_weights, find_weights, save_weights
from gluondense.weights.published import same_network
from gluondense.weights.save import describe_file
from gluondense.weights.shipped import rows

MODEL = "densenet40_k12_bc_cifar10"
INFO = DATASETS["cifar10"]
SIZE = 2_000_000
SHIPPED = [row for row in WEIGHTS.values() if not row.urls]


@pytest.mark.parametrize("row", SHIPPED, ids=lambda row: row.name)
def test_a_file_of_the_package_is_that_of_its_row(row):
    path = fetch_weights(row)
    assert path.stat().st_size < SIZE
    assert re.fullmatch(r"\w+\.gd_\w+", row.name)
    assert find_weights(row.name) is row
    assert find_weights(row.model).top1 >= row.top1  # the default is not worse
    net = gluondense.get_model(row.model, pretrained=row.tag)
    described = describe_file(path)
    assert same_network(described.model, gluondense.get_spec(described.model, **described.fields))
    assert described.model == row.model
    assert described.class_names == tuple(net.classes) == DATASETS[row.dataset].class_names


def test_the_folder_has_no_other_files():
    files = {path.name for path in rows.FOLDER.glob("*.safetensors")}
    assert files == {row.file_name for row in SHIPPED}
    assert rows.read_rows() == SHIPPED


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A package with the weights of one small network, and no network."""
    monkeypatch.setenv("GLUONDENSE_OFFLINE", "1")
    monkeypatch.setenv("MXNET_HOME", str(tmp_path / "home"))
    folder = tmp_path / "shipped"
    folder.mkdir()
    net = gluondense.get_model(MODEL)
    net.initialize()
    net(mx.nd.zeros((1, 3, 32, 32)))
    images = Preprocessing.stretched(INFO.mean, INFO.std, (32, 32))
    net.preprocessing, net.classes = images, INFO.class_names
    row = Weights(MODEL, "gd_c10", (), "", 93.5, None, images, classes=10, dataset="cifar10")
    save_weights(net, folder / row.file_name, "gluondense")
    row = dataclasses.replace(row, sha256=sha256(folder / row.file_name))
    rows.write_rows([row], folder)
    published = {row.name: row, **WEIGHTS, row.name: row}  # the first, also if it was there
    for module in ("weights.catalog", "zoo", "training.fine_tuning.pretrained"):
        monkeypatch.setattr(f"gluondense.{module}.WEIGHTS", published)
    monkeypatch.setattr(
        "gluondense.weights.catalog.verified_path", lambda row: rows.verified_path(row, folder)
    )
    return folder


def test_rows_are_read_as_they_were_written(folder):
    (row,) = rows.read_rows(folder)
    assert row is not find_weights(MODEL)
    assert row == find_weights(MODEL) == find_weights(f"{MODEL}.gd_c10")
    assert row.preprocessing.input_size == (32, 32)


def test_they_are_the_default_of_the_network_and_need_no_network(folder, tmp_path):
    net = gluondense.get_model(MODEL, pretrained=True)
    assert net.preprocessing == find_weights(MODEL).preprocessing
    assert net.classes == INFO.class_names
    assert gluondense.get_model(MODEL, pretrained="gd_c10").preprocessing == net.preprocessing
    other = gluondense.get_model(MODEL, pretrained=folder / f"{MODEL}.gd_c10.safetensors")
    image = mx.nd.random.uniform(shape=(1, 3, 32, 32))
    assert (net(image) == other(image)).asnumpy().all()
    assert not (tmp_path / "home").exists()


def test_a_command_exports_them_with_their_preprocessing(folder, tmp_path, capsys):
    assert export.main([MODEL, "--out", str(tmp_path / "net")]) == 0
    exported = gluondense.load_exported(tmp_path / "net")
    assert exported.metadata.preprocessing == find_weights(MODEL).preprocessing
    assert exported.metadata.class_names == INFO.class_names
    assert f"{MODEL}.gd_c10" in capsys.readouterr().out


def test_a_training_starts_from_them(folder):
    from gluondense.training import TrainConfig
    from gluondense.training.fine_tuning.pretrained import find_initial_weights

    config = TrainConfig.of(MODEL, dataset="cifar10", pretrained="default")
    found = find_initial_weights(config.model)
    assert found.path == folder / f"{MODEL}.gd_c10.safetensors"
    assert found.class_names == INFO.class_names


def test_a_damaged_file_is_refused(folder):
    path = folder / f"{MODEL}.gd_c10.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(OSError, match=r"gd_c10\.safetensors of the package is damaged.*reinstall"):
        gluondense.get_model(MODEL, pretrained=True)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        gluondense.get_model(MODEL, pretrained=True)


def test_equal_networks_give_equal_files(folder, tmp_path):
    net = gluondense.get_model(MODEL, pretrained=True)
    save_weights(net, tmp_path / "again.safetensors", "gluondense")
    assert sha256(tmp_path / "again.safetensors") == find_weights(MODEL).sha256
