"""Detectors in the inference benchmark: their networks, weights and outputs."""

from __future__ import annotations

import json

import mxnet as mx
import numpy as np
import pytest
from benchmarking import networks
from benchmarking.interleaved import output_error
from benchmarking.prepare import backends, prepare
from support.detectors import BACKBONE, SMALL, detector

from gluondense.detection.spec import DetectorSpec
from scripts import benchmark

EFM, FPN = (f"yolo3_{fusion}_csp_peleenet_custom" for fusion in ("efm", "fpn"))
GLUONCV = "yolo3_mobilenet0.25_custom"
SIDE = 64


def images(count=2):
    return np.random.default_rng(0).standard_normal((count, 3, SIDE, SIDE), dtype="float32")


def test_fields_of_all_networks_and_of_one():
    net = networks.build(f"{EFM}:attention=null:width=0.25", {**SMALL, "width": 0.5})
    assert (net.spec.attention, net.spec.width, net.spec.classes) == (None, 0.25, 3)
    assert dict(net.spec.backbone_args) == BACKBONE
    assert networks.label(f"{EFM}:width=0.25", net) == f"{EFM}:width=0.25"
    assert networks.input_size(net) == 416
    assert networks.build("densenet_tutorial:classes=7", {}).spec.classes == 7


def test_only_networks_of_gluoncv_run_in_gluoncv(tmp_path):
    net = networks.build(GLUONCV, {"width": 0.5})
    assert networks.is_of_gluoncv(net)
    assert (net.classes, networks.in_channels(net)) == (list(networks.CLASSES), 3)
    assert prepare(GLUONCV, tmp_path, [SIDE], net=net).names == ["gluoncv"]
    ready = prepare(EFM, tmp_path, [SIDE], ["gluoncv"], net=detector())
    assert ready.reasons == {"gluoncv": "only GluonCV's own detectors run in it"}


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("yolo3_mobilnet1.0_coco", "did you mean 'yolo3_mobilenet1.0_coco'"),
        ("ssd_512_densenet121_voc", "a classifier or a yolo3 detector"),
        (f"{EFM}:widht=2", "did you mean 'width'"),
    ],
)
def test_a_wrong_name_is_an_error(model, words):
    with pytest.raises(ValueError, match=words):
        networks.build(model, {})


def test_the_network_of_a_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        networks.build(str(tmp_path), {})
    assert networks.label(str(tmp_path), detector()) == f"{EFM} of {tmp_path.name}"
    assert networks.is_initialized(detector())


@pytest.mark.parametrize("model", [EFM, GLUONCV])
def test_random_detectors_suppress_a_usual_number_of_boxes(model):
    net = networks.build(model, SMALL)
    assert not networks.is_initialized(net)
    networks.randomize(net, images())
    net.set_nms(nms_thresh=1, post_nms=-1)  # all rows
    scores = net(mx.nd.array(images()))[1].asnumpy()
    assert scores.shape[1] == 3 * 3 * (2**2 + 4**2 + 8**2)
    found = (scores >= DetectorSpec.score_threshold).sum() / len(scores)
    assert found == pytest.approx(networks.CANDIDATES, abs=1)
    means = [p.data() for n, p in net.collect_params().items() if n.endswith("running_mean")]
    assert all(mean.norm().asscalar() > 0 for mean in means)


def test_random_weights_are_equal_in_each_run():
    first, second = (networks.build(EFM, SMALL) for _ in range(2))
    for net in (first, second):
        networks.randomize(net, images())
    outputs = [net(mx.nd.array(images()))[2].asnumpy() for net in (first, second)]
    np.testing.assert_array_equal(*outputs)


def test_boxes_are_compared_without_their_order():
    rows = np.full((100, 6), -1.0)
    rows[:2] = [[0, 0.9, 0, 0, 10, 10], [1, 0.8, 20, 20, 30, 40]]
    assert output_error(rows[[1, 0, *range(2, 100)]], rows) == 0
    moved = rows.copy()
    moved[0, 2:] += 20
    assert output_error(moved, rows) == 0.5
    assert output_error(np.array([1.0, 2.2]), np.array([1.0, 2.0])) == pytest.approx(0.2 / 5**0.5)


@pytest.mark.filterwarnings("ignore:Cannot decide type")
def test_prepared_boxes_are_rows(tmp_path):
    ready = prepare(EFM, tmp_path, [SIDE], ["portable"], net=detector())
    assert ready.names == ["portable"]
    assert ready.case(1, SIDE).expected.shape == (100, 6)
    run = backends()["portable"].build(tmp_path, 1, (1, 3, SIDE, SIDE))
    assert output_error(run(ready.images(SIDE)[:1])[0], ready.output(SIDE)) == 0


@pytest.mark.slow
def test_detectors_beside_gluoncv_and_onnx_runtime(tmp_path, monkeypatch):
    """Workers run MXNet without gluondense, and GluonCV without PyTorch."""
    pytest.importorskip("onnxruntime")
    if np.lib.NumpyVersion(np.__version__) >= "1.24.0":
        pytest.skip("plain MXNet needs NumPy below 1.24")
    monkeypatch.setenv("PYTHONPATH", "")
    file = tmp_path / "results.json"
    options = ["--batch", "1", "--sizes", str(SIDE), "--threads", "1", "--rounds", "1"]
    fields = ["--set", f"backbone_args={json.dumps(BACKBONE)}", "--set", "width=0.125"]
    names = ["native", "onnxruntime"]
    models = [f"{FPN}:attention=null", EFM, GLUONCV]
    only = ["--together", "--only", *names, "--json", str(file)]
    assert benchmark.main([*models, *options, *fields, *only]) == 0
    written = json.loads(file.read_text())
    assert {(row["model"], row["name"]) for row in written["rows"]} == {
        *((model, name) for model in models[:2] for name in names),
        (GLUONCV, "gluoncv"),
    }
    assert all(row["off"] <= 0.03 for row in written["rows"])
