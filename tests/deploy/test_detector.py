"""Exports of detectors: boxes equal those of the network."""

from __future__ import annotations

import json

import mxnet as mx
import numpy as np
import pytest
from support.detectors import CLASSES
from support.exported_detectors import NETS, SIDE, assert_same_boxes, images, own_detector, rows
from support.exported_networks import in_stock_mxnet

import gluondense
from gluondense.deploy import load_exported
from gluondense.graph.split_detector import split_detector
from gluondense.graph.trace import trace

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
SHAPES = {"one": (1, 3, SIDE, SIDE), "three": (3, 3, SIDE, SIDE), "wide": (2, 3, 64, 160)}
TARGETS = ("portable", "onednn", "native", "onnx")


@pytest.fixture(scope="module")
def net():
    return own_detector()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", NETS)
def test_boxes_are_the_networks(name, target, tmp_path, native_operator):
    if (name, target) == ("gluoncv", "native"):
        pytest.skip("its neck repeats pixels by an operator that programs have no step for")
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


def test_the_same_bytes_again(net, tmp_path):
    for target in ("portable", "onnx"):
        contents = []
        for name in ("one", "two"):
            files = gluondense.export(net, tmp_path / name, (1, 3, SIDE, SIDE), target)
            contents.append([path.read_bytes() for path in files][:-1])
        assert contents[0] == contents[1]


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
