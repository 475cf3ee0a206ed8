"""Exports of detectors: boxes equal those of the network."""

from __future__ import annotations

import json

import mxnet as mx
import numpy as np
import pytest
from support.detectors import CLASSES
from support.exported_detectors import (
    NETS,
    SIDE,
    assert_same_boxes,
    gluoncv_detector,
    images,
    own_detector,
    rows,
)
from support.exported_networks import as_list, in_stock_mxnet

import gluondense
from gluondense.deploy import Calibration, load_exported
from gluondense.deploy.detector import box_agreement
from gluondense.graph.split_detector import split_detector
from gluondense.graph.trace import trace

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
SHAPES = {"one": (1, 3, SIDE, SIDE), "three": (3, 3, SIDE, SIDE), "wide": (2, 3, 64, 160)}
CASES = [
    *(("efm", target) for target in ("portable", "onednn", "native", "onnx")),
    *(("gfm-spp", "native"), ("gluoncv", "onnx")),
    pytest.param("gluoncv", "portable", marks=pytest.mark.slow),
    pytest.param("gluoncv", "onednn", marks=pytest.mark.slow),
    *(
        pytest.param("gfm-spp", target, marks=pytest.mark.slow)
        for target in ("portable", "onednn", "onnx")
    ),
]


@pytest.fixture(scope="module")
def net():
    return own_detector()


@pytest.mark.parametrize(("name", "target"), CASES)
def test_boxes_are_the_networks(name, target, tmp_path, native_operator):
    net = NETS[name]()
    gluondense.export(net, tmp_path / name, (1, 3, SIDE, SIDE), target)
    block = load_exported(tmp_path / name)
    for shape in SHAPES.values():
        x = mx.nd.array(images(*shape))
        found = rows(block(x))
        assert (found[..., 0] >= 0).any()
        assert_same_boxes(found, rows(net(x)))


def test_metadata_describes_the_boxes(net, tmp_path):
    gluondense.export(net, tmp_path / "net", (1, 3, SIDE, SIDE), "portable", **IMAGENET)
    metadata = load_exported(tmp_path / "net").metadata
    assert metadata.model == "yolo3_efm_csp_peleenet_custom"
    assert metadata.spec["fusion"] == "efm"
    assert (metadata.task, metadata.output) == ("detection", "boxes")
    assert metadata.class_names == CLASSES
    assert metadata.output_shapes == ((1, 100, 1), (1, 100, 1), (1, 100, 4))
    assert len(metadata.outputs) == 3


def test_stock_mxnet_and_module_give_the_same_boxes(net, tmp_path):
    gluondense.export(net, tmp_path / "portable", (1, 3, SIDE, SIDE))
    inputs = {f"portable|{name}": images(*shape) for name, shape in SHAPES.items()}
    found = in_stock_mxnet(tmp_path, inputs)
    for name, x in inputs.items():
        wanted = rows(net(mx.nd.array(x)))
        for api in ("block", "module"):
            got = np.concatenate([found[f"{name}|{api}|{n}"] for n in range(3)], axis=2)
            assert_same_boxes(got, wanted)


@pytest.mark.parametrize("target", ["portable", "onnx"])
def test_no_box_where_no_score_is_above_the_threshold(target, tmp_path):
    net = own_detector()
    for output in net.yolo_outputs:
        bias = output.prediction.bias
        bias.set_data(bias.data() - 100)
    gluondense.export(net, tmp_path / "net", (1, 3, SIDE, SIDE), target)
    found = rows(load_exported(tmp_path / "net")(mx.nd.array(images(3, 3, SIDE, SIDE))))
    assert (found == -1).all()


@pytest.mark.parametrize("target", ["portable", "onnx"])
def test_the_best_boxes_where_there_are_more_than_fit(target, tmp_path):
    net = own_detector()
    net.set_nms(nms_thresh=0.9, nms_topk=60, post_nms=20)
    gluondense.export(net, tmp_path / "net", (1, 3, SIDE, SIDE), target)
    x = mx.nd.array(images(3, 3, SIDE, SIDE))
    found = rows(load_exported(tmp_path / "net")(x))
    assert found.shape == (3, 20, 6)
    assert (found[..., 0] >= 0).all()
    assert_same_boxes(found, rows(net(x)))


def test_pixels_as_input(net, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), "uint8")
    for target in ("portable", "onnx"):
        options = {"preprocess": True, **IMAGENET}
        gluondense.export(net, tmp_path / target, (1, 3, SIDE, SIDE), target, **options)
        block = load_exported(tmp_path / target)
        x = mx.nd.array(block.metadata.preprocessing.normalize(pixels))
        found = rows(block(mx.nd.array(pixels, dtype="uint8")))
        assert_same_boxes(found, rows(net(x)))


@pytest.mark.parametrize("target", ["portable", "onednn", "onnx"])
def test_equal_networks_give_equal_bytes(net, target, tmp_path):
    contents = []
    for name, each in (("one", net), ("two", own_detector())):
        files = gluondense.export(each, tmp_path / name, (1, 3, SIDE, SIDE), target)
        contents.append([path.read_bytes() for path in files][:-1])
    assert contents[0] == contents[1]


@pytest.mark.parametrize(
    "target", ["int8", "native_int8", pytest.param("onnx_int8", marks=pytest.mark.slow)]
)
def test_int8_finds_most_of_the_boxes(net, target, tmp_path, native_operator):
    calibration = Calibration(images(8, 3, SIDE, SIDE))
    gluondense.export(
        net, tmp_path / "net", (1, 3, SIDE, SIDE), target, calibration=calibration, **IMAGENET
    )
    block = load_exported(tmp_path / "net")
    record = block.metadata.quantization
    assert record["kept"] == []
    assert record["layers"] > 50
    assert record["error"] < 0.05
    assert record["agreement"] > 0.85
    x = mx.nd.array(images(4, 3, SIDE, SIDE, seed=4))
    assert box_agreement(as_list(block(x)), as_list(net(x))) > 0.8


def test_the_share_of_equal_boxes():
    ids, scores = np.array([[[0], [0], [-1]]]), np.array([[[0.9], [0.6], [-1]]])
    boxes = np.array([[[0, 0, 8, 8], [20, 0, 28, 8], [-1, -1, -1, -1]]], "float32")
    other = np.array([[[0], [1], [-1]]])
    whole, none = [ids, scores, boxes], [0 * ids - 1, 0 * scores - 1, 0 * boxes - 1]
    assert box_agreement(whole, whole) == 1
    assert box_agreement(none, none) is None
    assert box_agreement(whole, none) == box_agreement(none, whole) == 0
    assert box_agreement(whole, [ids, scores * [[[1], [0.5], [1]]], boxes]) == 2 / 3  # one of two
    assert box_agreement(whole, [other, scores, boxes]) == 0.5
    assert box_agreement(whole, [ids, scores, boxes + 1]) == 1
    assert box_agreement(whole, [ids, scores, boxes + 5]) == 0


def test_native_says_which_operator_of_gluoncvs_neck_it_lacks(tmp_path, native_operator):
    with pytest.raises(ValueError, match=r"no step for repeat.*use target='onednn'"):
        gluondense.export(gluoncv_detector(), tmp_path / "net", (1, 3, SIDE, SIDE), "native")


def test_a_classifier_is_not_split():
    assert split_detector(trace(gluondense.get_model("densenet_tutorial"))) is None


def test_the_network_ends_with_the_predictions(net):
    parts = split_detector(trace(net))
    last = [name for name in parts.tensors if "prediction" in name]
    assert len(parts.tensors) == len(last) == 3
    nodes = json.loads(parts.boxes.tojson())["nodes"]
    assert "Convolution" not in {node["op"] for node in nodes}
    ops = {node["op"] for node in json.loads(parts.network.tojson())["nodes"]}
    assert "_contrib_box_nms" not in ops


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"output": "probabilities"}, "'boxes' for a detector"),
        ({"class_names": ["one"]}, "one for each of the network's 3 classes"),
        ({"task": "classification"}, "'detection' for a network with non-maximum suppression"),
        ({"thresholds": (0.5,)}, "thresholds"),
    ],
)
def test_refuses_wrong_arguments(net, tmp_path, arguments, words):
    with pytest.raises(ValueError, match=words):
        gluondense.export(net, tmp_path / "net", (1, 3, SIDE, SIDE), **arguments)
