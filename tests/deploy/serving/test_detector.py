"""An archive of a detector in multi-model-server: boxes equal those in process."""

from __future__ import annotations

import pytest
from support.exported_detectors import own_detector, write_photographs
from support.serving import serving

import gluondense
from gluondense.data.preprocessing import IMAGENET, Preprocessing
from gluondense.deploy import archive, predict

pytestmark = pytest.mark.serve
SIZE = (64, 96)
TARGETS = ("portable", "native")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_photographs(tmp_path_factory.mktemp("photographs"))


@pytest.fixture(scope="module")
def store(tmp_path_factory, native_operator):
    folder, net = tmp_path_factory.mktemp("store"), own_detector()
    way = Preprocessing(IMAGENET.mean, IMAGENET.std, input_size=SIZE, resize="letterbox")
    for target in TARGETS:
        path = folder / "exports" / target
        gluondense.export(net, path, (1, 3, *SIZE), target, preprocessing=way, preprocess=True)
        archive(path, folder / f"{target}.mar")
    return folder


@pytest.fixture(scope="module")
def server(store, tmp_path_factory):
    with serving(store, tmp_path_factory.mktemp("server"), TARGETS, batch_size=2) as running:
        yield running


@pytest.mark.parametrize("name", TARGETS)
def test_boxes_equal_those_in_process(server, store, files, name):
    block = gluondense.load_exported(store / "exports" / name)
    for file, wanted in zip(files, predict(block, files)):
        answer = server.predict(name, file.read_bytes())
        assert (answer.status, answer.content_type) == (200, "application/json")
        found = answer.json()
        assert [each["class"] for each in found] == [each["class"] for each in wanted.boxes]
        for one, other in zip(found, wanted.boxes):
            assert one["probability"] == pytest.approx(other["probability"], abs=1e-5)
            assert one["box"] == pytest.approx(other["box"], abs=1e-2)
    assert server.predict(name, b"garbage").status == 400
