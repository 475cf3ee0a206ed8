"""The example for BentoML answers as ``gluondense predict``, without MXNet."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from typing import NamedTuple

import numpy as np
import pytest
import requests
from benchmarking.servers import free_ports
from support.exported_networks import VARIANTS, build
from support.paths import ROOT

import gluondense
from gluondense.commands import predict

pytestmark = pytest.mark.serve

LABELS = {"task": "multi_label", "thresholds": (0.2, 0.4, 0.5, 0.6, 0.8)}
OPTIONS = {"classes": {}, "labels": {**LABELS, "preprocess": True}}


class Server(NamedTuple):
    address: str
    export: str

    def send(self, image, **fields):
        files = {"image": ("image.jpg", image)}
        return requests.post(f"{self.address}/predict", data=fields, files=files, timeout=30)


@contextlib.contextmanager
def bentoml(export, folder):
    """Run the example; a module in place of MXNet fails if it is imported."""
    (folder / "mxnet.py").write_text("raise ImportError('the service must not need MXNet')\n")
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "bentoml", "serve", "docs.examples.bentoml_service:Classifier"]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]),
        "BENTOML_HOME": str(folder / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        "GLUONDENSE_EXPORT": export,
    }
    address, log = f"http://127.0.0.1:{port}", folder / "log.txt"
    with open(log, "w") as out:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            cwd=ROOT,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        end = time.monotonic() + 120
        while not is_ready(address):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.2)
        yield Server(address, export)
    finally:
        process.terminate()
        process.wait(30)


def is_ready(address):
    with contextlib.suppress(requests.ConnectionError, requests.Timeout):
        return requests.get(f"{address}/readyz", timeout=10).ok
    return False


@pytest.fixture(scope="module", params=OPTIONS)
def server(request, tmp_path_factory, native_operator):
    pytest.importorskip("bentoml", reason="the extra `bentoml` is not installed")
    folder = tmp_path_factory.mktemp("bentoml")
    files = gluondense.export(
        build(*VARIANTS["csp-last"]),
        folder / "net",
        (1, 3, 64, 64),
        "native",
        class_names=tuple("abcde"),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        **OPTIONS[request.param],
    )
    with bentoml(files.prefix, folder) as running:
        yield running


def test_answers_are_those_of_the_command(server, image_files, capsys):
    images = [str(file) for file in image_files[:8]]
    assert predict.main([server.export, *images, "--json"]) == 0
    for expected, file in zip(json.loads(capsys.readouterr().out), image_files):
        answer = server.send(file.read_bytes())
        assert answer.status_code == 200
        found = answer.json()
        assert found.keys() == expected.keys() - {"image"}
        np.testing.assert_allclose(
            found.pop("probabilities"), expected.pop("probabilities"), rtol=0, atol=1e-6
        )
        assert found == {key: expected[key] for key in found}


def test_top_and_invalid_requests(server, image_files):
    image = image_files[0].read_bytes()
    assert len(server.send(image, top=2).json()["labels"]) == 2
    for answer, words in (
        (server.send(image, top=0), "top (=0) must be at least 1"),
        (server.send(b"hello"), "image.jpg is not an image"),
        (server.send(image[: len(image) // 2]), "truncated"),
    ):
        assert answer.status_code == 400
        assert words in answer.text
        assert "/" not in answer.text  # no path of the server
