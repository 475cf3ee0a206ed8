"""Exports of earlier versions still load and give the same outputs."""

from __future__ import annotations

import zipfile

import mxnet as mx
import numpy as np
import pytest
from PIL import Image
from support.paths import ROOT

import gluondense
from gluondense.data.preprocessing import Preprocessing
from gluondense.deploy import archive, predict
from gluondense.deploy.serving.service import Service

# Largest difference relative to the largest output: int8 kernels differ between processors.
TOLERANCE = {"portable": 1e-5, "onnx": 1e-5, "native": 1e-4, "int8": 0.05, "native_int8": 0.05}


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """Exports of version 0.1.0: a small ``densenet_tutorial`` with random weights.

    ``outputs.npz`` contains an input ``x`` and the outputs for it by target; ``archive.zip`` is the
    archive of the portable export.
    """
    folder = tmp_path_factory.mktemp("exports")
    with zipfile.ZipFile(ROOT / "tests/files/exports-0.1.0.zip") as packed:
        packed.extractall(folder)
    return folder


@pytest.mark.parametrize("target", TOLERANCE)
def test_earlier_exports_give_the_same_outputs(earlier, target, request):
    if target.startswith("native"):
        request.getfixturevalue("native_operator")
    if target == "onnx":
        pytest.importorskip("onnxruntime")
    block = gluondense.load_exported(earlier / target)
    arrays = np.load(earlier / "outputs.npz")
    found = block(mx.nd.array(arrays["x"])).asnumpy()
    atol = TOLERANCE[target] * np.abs(arrays[target]).max()
    np.testing.assert_allclose(found, arrays[target], rtol=0, atol=atol)
    metadata = block.metadata
    assert (metadata.model, metadata.target) == ("densenet_tutorial", target)
    assert metadata.class_names == ("a", "b", "c")
    size = metadata.input_shape[2:]
    assert metadata.preprocessing == Preprocessing.stretched((0.5,), (0.25,), size)
    if target == "int8":
        assert metadata.quantization["kept"] == ["densenet_tutorial_output_fwd"]
        assert metadata.quantization["images"] == 8


def test_earlier_archives_load(earlier):
    arrays = np.load(earlier / "outputs.npz")
    block = gluondense.load_exported(earlier / "archive.zip")
    found = block(mx.nd.array(arrays["x"])).asnumpy()
    np.testing.assert_allclose(found, arrays["portable"], rtol=1e-5, atol=1e-5)


def test_weights_of_earlier_exports_load(earlier):
    fields = gluondense.load_exported(earlier / "portable").metadata.spec
    net = gluondense.get_model("densenet_tutorial", **fields)
    gluondense.load_weights(net, earlier / "portable-0000.params")
    arrays = np.load(earlier / "outputs.npz")
    found = net(mx.nd.array(arrays["x"])).asnumpy()
    np.testing.assert_allclose(found, arrays["portable"], rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Cannot decide type")  # MXNet's, for any served graph
def test_earlier_exports_are_served_and_predict_as_they_did(earlier, tmp_path):
    """Both sides of an image are resized."""
    path = tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 90), np.uint8)).save(path)
    block = gluondense.load_exported(earlier / "portable")
    _, channels, height, width = block.metadata.input_shape
    assert channels == 1
    pixels = np.asarray(Image.open(path).resize((width, height), Image.Resampling.BILINEAR))
    x = mx.nd.array((pixels / 255 - 0.5) / 0.25).reshape((1, 1, height, width))
    expected = mx.nd.softmax(block(x)).asnumpy()[0]
    (found,) = predict(block, [path])
    np.testing.assert_allclose(found.probabilities, np.sort(expected)[::-1], atol=1e-5)
    with zipfile.ZipFile(archive(earlier / "portable", tmp_path / "model.mar")) as packed:
        packed.extractall(tmp_path / "served")
    service, request = Service(tmp_path / "served", None, 1), {"body": path.read_bytes()}
    answer, refused = service.answer([request, {**request, "threshold": "0.5"}])
    assert str(refused) == "threshold is for boxes, and the network gives none."
    assert [row["class"] for row in answer] == list(found.labels)
    probabilities = [row["probability"] for row in answer]
    np.testing.assert_allclose(probabilities, found.probabilities, atol=1e-5)
