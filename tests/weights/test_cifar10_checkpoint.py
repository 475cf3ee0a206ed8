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
from gluondense.data.transforms.batch import normalize
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
    """Normalized test images and their labels."""
    folder = tmp_path_factory.mktemp("cifar10")
    tool = shared / "tools/cifar10.py"
    subprocess.run([sys.executable, tool, folder], check=True, capture_output=True)
    _, _, pixels, labels = load(CIFAR10, folder, None)
    images = normalize(pixels[:IMAGES], ROW.preprocessing.mean, ROW.preprocessing.std)
    return images, labels[:IMAGES]


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
    net = gluondense.get_model(MODEL, pretrained=True, root=tmp_path)
    assert net.classes == gluondense.data.DATASETS["cifar10"].class_names
    assert net.preprocessing == ROW.preprocessing


@pytest.mark.slow
def test_accuracy(checkpoint, cifar10):
    net = gluondense.get_model(MODEL, pretrained=checkpoint)
    assert count_correct(net, *cifar10) == CORRECT
