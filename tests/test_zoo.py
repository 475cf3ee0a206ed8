"""Pretrained networks: from a file, or downloaded once."""

from __future__ import annotations

import dataclasses
import hashlib

import mxnet as mx
import pytest
from support.reference import assert_close, images, randomize

import gluondense
from gluondense import get_model
from gluondense.weights import WEIGHTS, Weights, save_weights

SMALL = {"stem": "cifar", "block_config": (2, 2), "growth_rate": 6, "num_init_features": 10}


@pytest.fixture
def saved(tmp_path):
    """Return a small network and the file of its parameters."""
    net = randomize(get_model("densenet121", classes=7, **SMALL))
    path = tmp_path / "small.params"
    net.save_parameters(str(path))
    return net, path


@pytest.mark.parametrize("as_type", [str, lambda path: path])
def test_pretrained_loads_a_file(saved, as_type):
    net, path = saved
    again = get_model("densenet121", pretrained=as_type(path), ctx=mx.cpu(1), classes=7, **SMALL)
    assert again.output.weight.list_ctx() == [mx.cpu(1)]
    x = mx.nd.array(images(2, 3, 9, 12))
    assert_close(again(x.as_in_context(mx.cpu(1))), net(x).asnumpy())


def test_pretrained_features_ignore_the_output(saved):
    net, path = saved
    features = get_model("densenet121", pretrained=path, features_only=True, **SMALL)
    x = mx.nd.array(images(2, 3, 9, 12))
    last = features(x)[-1].mean(axis=(2, 3))
    assert_close(net.output(last), net(x).asnumpy())


def test_errors_of_pretrained(saved, tmp_path):
    _, path = saved
    with pytest.raises(FileNotFoundError, match=r"missing\.params"):
        get_model("densenet121", pretrained="missing.params")
    with pytest.raises(FileNotFoundError, match="a/missing"):
        get_model("densenet121", pretrained="a/missing")
    with pytest.raises(IsADirectoryError, match="folder"):
        get_model("densenet121", pretrained=tmp_path)
    with pytest.raises(ValueError, match="does not fit densenet121"):
        get_model("densenet121", pretrained=path, **{**SMALL, "block_config": (2, 3)})
    with pytest.raises(ValueError, match="'densenet264' has no published weights"):
        get_model("densenet264", pretrained=True)
    with pytest.raises(ValueError, match="no weights 'tv_in1'; did you mean 'tv_in1k'"):
        get_model("densenet121", pretrained="tv_in1")


@pytest.fixture
def published(server, tmp_path, monkeypatch):
    """Serve random weights of DPN-68b in timm's format from a local server."""
    net = gluondense.get_model("dpn68b")
    net.initialize()
    save_weights(net, tmp_path / "timm.safetensors")
    content = (tmp_path / "timm.safetensors").read_bytes()
    server.pages["/dpn68b-file.pth"] = content
    row = WEIGHTS["dpn68b.mx_in1k"]
    row = dataclasses.replace(
        row,
        urls=(f"{server.url}/dpn68b-file.pth",),
        sha256=hashlib.sha256(content).hexdigest()[:9],
    )
    monkeypatch.setitem(WEIGHTS, row.name, row)
    return net, row, server


def test_pretrained_downloads_once(published, tmp_path):
    theirs, row, server = published
    root = tmp_path / "models"
    nets = [
        get_model("dpn68b", pretrained=True, root=root),
        get_model("DPN68b", pretrained="mx_in1k", root=str(root)),
    ]
    assert server.paths == ["/dpn68b-file.pth"]
    assert (root / row.file_name).is_file()
    x = mx.nd.array(images(1, 3, 64, 64))
    for net in nets:
        assert_close(net(x), theirs(x).asnumpy())
        assert net.preprocessing == row.preprocessing
        # As GluonCV does.
        assert (net.synset[0], net.classes[0]) == ("n01440764", "tench")
        assert len(net.classes_long) == 1000
    nets[0].reset_output(3)
    assert nets[0].classes is None


def test_pretrained_with_other_classes_and_channels(published, tmp_path, caplog):
    net = get_model("dpn68b", pretrained=True, root=tmp_path, classes=7, in_channels=1)
    assert net(mx.nd.zeros((1, 1, 64, 64))).shape == (1, 7)
    assert "the output for 7 is initialized" in caplog.text
    assert "stem's filters from 3 channels to 1" in caplog.text
    assert len(net.preprocessing.mean) == 1
    assert net.classes is None


def test_model_functions_and_gluoncv_accept_root(published, tmp_path, monkeypatch):
    monkeypatch.setenv("MXNET_HOME", str(tmp_path / "home"))
    gluondense.dpn68b(pretrained=True, root=tmp_path)
    assert not (tmp_path / "home").exists()
    gluondense.dpn68b(pretrained=True)
    assert [path.name for path in (tmp_path / "home" / "models").iterdir()] == ["dpn68b-file.pth"]


def test_catalog_rows_have_a_preprocessing():
    assert isinstance(WEIGHTS["densenet121.tv_in1k"], Weights)
    assert WEIGHTS["dpn92.mx_in1k"].preprocessing.mean[0] == 124 / 255


def test_exports_store_the_preprocessing(tmp_path):
    net = gluondense.get_model("dpn68", classes=3)
    net.initialize()
    net.preprocessing = WEIGHTS["dpn68.mx_in1k"].preprocessing
    save_weights(net, tmp_path / "dpn.safetensors")
    loaded = get_model("dpn68", pretrained=tmp_path / "dpn.safetensors", classes=3)
    files = gluondense.export(loaded, tmp_path / "out", (1, 3, 64, 64))
    metadata = gluondense.load_exported(files.prefix).metadata
    assert metadata.mean == loaded.preprocessing.mean
    assert metadata.std == loaded.preprocessing.std


def test_exports_store_the_classes_of_published_weights(published, tmp_path):
    net = get_model("dpn68b", pretrained=True, root=tmp_path)
    files = gluondense.export(net, tmp_path / "out", (1, 3, 64, 64))
    assert gluondense.load_exported(files.prefix).metadata.class_names[0] == "tench"
    with net.name_scope():
        net.output = mx.gluon.nn.Dense(2, in_units=net.out_channels)
    net.output.initialize()
    files = gluondense.export(net, tmp_path / "other", (1, 3, 64, 64))
    assert gluondense.load_exported(files.prefix).metadata.class_names is None
