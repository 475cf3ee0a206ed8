# SPDX-License-Identifier: Apache-2.0
"""A published checkpoint on real images: HazyResearch's DenseNet-BC-40-12 on CIFAR-10.

The whole test set gives 93.16 % with every float target; the tests use its first images.
"""

from __future__ import annotations

import shutil
import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest

import gluondense
from gluondense.data.datasets.cifar import CIFAR10, load
from gluondense.weights import WEIGHTS, load_weights

MODEL = "densenet40_k12_bc_cifar10"
ROW = WEIGHTS[f"{MODEL}.hazy_cifar10"]
IMAGES = 500
CORRECT = 468  # of the first IMAGES, with PyTorch too


@pytest.fixture(scope="module")
def checkpoint(shared):
    path = shared / "data/weights/densenet-bc-40-12-cifar10.pth.tar"
    if not path.is_file():
        pytest.skip(f"no file {path}")
    return path


@pytest.fixture(scope="module")
def cifar10(shared, tmp_path_factory):
    """Normalized test images, their labels, and normalized images for calibration."""
    folder = tmp_path_factory.mktemp("cifar10")
    tool = shared / "tools/cifar10.py"
    subprocess.run([sys.executable, tool, folder], check=True, capture_output=True)
    train, _, pixels, labels = load(CIFAR10, folder, None)
    images, calibration = map(ROW.preprocessing.normalize, (pixels[:IMAGES], train[::390]))
    return images, labels[:IMAGES], calibration


def count_correct(net, images, labels, batch=100) -> int:
    outputs = [
        net(mx.nd.array(images[start : start + batch])).asnumpy().argmax(axis=1)
        for start in range(0, len(images), batch)
    ]
    return int((np.concatenate(outputs) == labels).sum())


def test_loads_by_name(checkpoint):
    net = gluondense.get_model(MODEL)
    report = load_weights(net, checkpoint)
    assert (report.format, report.naming) == ("torch", "veit-densenet")
    assert len(report.loaded) == 197
    assert report.fresh == report.adapted == report.ignored == ()
    assert report.preprocessing == net.preprocessing == ROW.preprocessing


def test_the_catalog_has_this_file(checkpoint, tmp_path):
    shutil.copy(checkpoint, tmp_path / ROW.file_name)
    net = gluondense.get_model(MODEL, pretrained=ROW.tag, root=tmp_path)
    assert net.classes == gluondense.data.DATASETS["cifar10"].class_names
    assert net.preprocessing == ROW.preprocessing


@pytest.mark.slow
@pytest.mark.parametrize("target", ["", "native", "onnx"])
def test_accuracy(checkpoint, cifar10, target, tmp_path, request):
    if target == "native":
        request.getfixturevalue("native_operator")
    elif target == "onnx":
        pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")
    net = gluondense.get_model(MODEL, pretrained=checkpoint)
    if target:
        files = gluondense.export(net, tmp_path / "net", (1, 3, 32, 32), target)
        net = gluondense.load_exported(files.prefix)
        assert net.metadata.preprocessing.mean == ROW.preprocessing.mean
    images, labels, _ = cifar10
    assert count_correct(net, images, labels) == CORRECT


@pytest.mark.slow
def test_accuracy_in_int8(checkpoint, cifar10, tmp_path, native_operator):
    """With the default options; `gluondense export` reports 92.97 % of all test images."""
    images, labels, calibration = cifar10
    net, shape = gluondense.get_model(MODEL, pretrained=checkpoint), (1, 3, 32, 32)
    files = gluondense.export(net, tmp_path / "net", shape, "native_int8", calibration=calibration)
    net = gluondense.load_exported(files.prefix)
    assert count_correct(net, images, labels) >= CORRECT - 0.005 * IMAGES
