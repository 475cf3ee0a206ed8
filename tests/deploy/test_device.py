from __future__ import annotations

import logging
import zipfile
from types import SimpleNamespace

import mxnet as mx
import numpy as np
import pytest
from support.exported_networks import VARIANTS, build

import gluondense
from gluondense.deploy import archive, device
from gluondense.deploy.device import GPU_TARGETS, choose_device
from gluondense.deploy.serving import service
from gluondense.deploy.targets import TARGETS

SHAPE = (1, 3, 32, 32)


@pytest.mark.parametrize("target", TARGETS)
def test_targets_for_cpus_stay_there(target, monkeypatch, caplog):
    prepared = []
    monkeypatch.setattr(device, "gpu_problem", lambda number: None)
    monkeypatch.setattr(device, "prepare_gpu", prepared.append)
    is_portable = target == "portable"
    assert choose_device(target, mx.gpu(1)) == (mx.gpu(1) if is_portable else mx.cpu())
    assert prepared == ([1] if is_portable else [])
    assert [record.message for record in caplog.records] == (
        [] if is_portable else [f"runs on the CPU, not on gpu(1): target {target} is for CPUs"]
    )
    assert choose_device(target, mx.cpu(1)) == mx.cpu(1)
    assert set(TARGETS) >= GPU_TARGETS


def test_where_mxnet_cannot_use_the_gpu_the_reason_is_logged(monkeypatch, caplog):
    monkeypatch.setattr(device, "gpu_problem", lambda number: f"there is no GPU {number}")
    assert choose_device("portable", mx.gpu(1)) == mx.cpu()
    expected = "runs on the CPU, not on gpu(1): there is no GPU 1"
    assert [record.message for record in caplog.records] == [expected]


@pytest.mark.filterwarnings("ignore:Cannot decide type")  # MXNet's, for any served graph
@pytest.mark.skipif(mx.runtime.Features().is_enabled("CUDA"), reason="MXNet is built for GPUs")
@pytest.mark.parametrize("target", ["portable", "onednn"])
def test_a_server_that_assigns_a_gpu_to_an_mxnet_for_cpus(target, tmp_path, monkeypatch, caplog):
    net = build(*VARIANTS["densenet"])
    options = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
    files = gluondense.export(net, tmp_path / "net", SHAPE, target, **options)
    x = mx.nd.ones(SHAPE)
    block = gluondense.load_exported(files.prefix, mx.gpu(0))
    np.testing.assert_allclose(block(x).asnumpy(), net(x).asnumpy(), rtol=1e-3, atol=1e-4)
    with zipfile.ZipFile(archive(files.prefix, tmp_path / "net.mar")) as packed:
        packed.extractall(tmp_path / "served")
    context = SimpleNamespace(
        system_properties={"model_dir": str(tmp_path / "served"), "gpu_id": 0, "batch_size": 2}
    )
    monkeypatch.setattr(service, "_service", None)
    caplog.clear()
    caplog.set_level(logging.WARNING)
    for _ in range(2):
        assert service.handle(None, context) == []
    assert [(r.name, r.levelname) for r in caplog.records] == [(device.__name__, "WARNING")]
