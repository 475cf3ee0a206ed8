"""The native operator of a YOLOv3's boxes equals GluonCV's decoding and MXNet's suppression."""

from __future__ import annotations

import json

import mxnet as mx
import numpy as np
import pytest
from support.exported_detectors import assert_same_boxes, own_detector, rows

from gluondense.deploy.detector import native_boxes
from gluondense.graph.split_detector import split_detector
from gluondense.graph.trace import trace
from gluondense.native import BOXES, load

ATTRIBUTES = {
    "strides": "16,8",
    "anchors": "30,60,10,13",
    "nms_threshold": 0.45,
    "score_threshold": 0.01,
    "topk": 400,
    "post_nms": 100,
}


@pytest.fixture(scope="module", autouse=True)
def operator(native_operator):
    """Load the operators into MXNet."""
    load(BOXES)


def both(net, shapes, images=2, seed=0):
    """Return the rows of the operator and of MXNet's operators for random predictions."""
    parts = split_detector(trace(net))
    random = np.random.default_rng(seed)
    channels = 3 * (5 + len(net.classes))
    sizes = dict(zip(parts.tensors, shapes))
    values = {
        name: mx.nd.array(random.normal(-1, 2, (images, channels, *size)))
        for name, size in sizes.items()
    }
    constants = {name: p.data() for name, p in net.collect_params().items()}
    results = []
    for graph in (native_boxes(net, parts.tensors), parts.boxes):
        inputs = {**constants, **values}
        inputs = {name: inputs[name] for name in graph.list_arguments()}
        results.append(rows(graph.bind(mx.cpu(), inputs, grad_req="null").forward()))
    return results


@pytest.mark.parametrize(
    "limits", [(0.45, 400, 100), (0.7, 30, 100), (0.2, -1, 500), (0.45, 9, 20)]
)
def test_equals_the_operators_of_mxnet(limits):
    net = own_detector()
    net.set_nms(*limits)
    got, wanted = both(net, [(2, 3), (4, 6), (8, 12)])
    assert (wanted[..., 0] >= 0).sum() > 8
    assert_same_boxes(got, wanted)


def test_fewer_boxes_than_rows():
    net = own_detector(score_threshold=0.6)
    got, wanted = both(net, [(1, 1), (2, 2), (4, 4)])
    assert 0 < (wanted[..., 0] >= 0).sum() < 20
    assert_same_boxes(got, wanted)


def test_infinite_and_nan_predictions_are_no_boxes():
    predictions = [mx.nd.full((1, 8, 2, 2), value) for value in (np.nan, -np.inf)]
    ids, scores, boxes = getattr(mx.nd, BOXES)(*predictions, **ATTRIBUTES)
    assert ids.asnumpy().max() == scores.asnumpy().max() == boxes.asnumpy().max() == -1


def test_nothing_is_decoded_that_is_not_suppressed():
    net = own_detector()
    tensors = split_detector(trace(net)).tensors
    assert native_boxes(net, tensors) is not None
    net.set_nms(nms_thresh=1)
    assert native_boxes(net, tensors) is None
    assert native_boxes(own_detector(), ("other",)) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"strides": "16,0"}, "strides must be positive numbers"),
        ({"strides": ""}, "strides must be positive numbers"),
        ({"anchors": "1,2,3"}, "not pairs"),
        ({"anchors": "1,2,3,nan"}, "anchors must be positive"),
        ({"anchors": "1,2,1,2,1,2,1,2"}, "predictions have 7 channels"),
        ({"topk": -1}, "topk must be an integer"),
        ({"nms_threshold": "half"}, "nms_threshold must be a number"),
    ],
)
def test_wrong_attributes_are_refused(changes, words):
    attributes = {**ATTRIBUTES, **changes}
    inputs = [mx.nd.zeros((1, 7, 2, 2)), mx.nd.zeros((1, 7, 4, 4))]
    with pytest.raises(mx.MXNetError, match=words):
        getattr(mx.nd, BOXES)(*inputs, **attributes)


def test_predictions_of_different_images_are_refused():
    for shape in ((2, 8, 4, 4), (1, 9, 4, 4), (1, 8, 4)):
        with pytest.raises(mx.MXNetError, match="predictions"):
            getattr(mx.nd, BOXES)(mx.nd.zeros((1, 8, 2, 2)), mx.nd.zeros(shape), **ATTRIBUTES)


@pytest.mark.parametrize("count", [1, 3])
def test_another_number_of_predictions_than_strides_is_refused(count):
    """As in a damaged symbol file: MXNet does not compare them."""
    variables = [mx.sym.var(f"data{number}", shape=(1, 8, 2, 2)) for number in range(2)]
    graph = json.loads(getattr(mx.sym, BOXES)(*variables, **ATTRIBUTES).tojson())
    graph["nodes"][-1]["inputs"] = [[number % 2, 0, 0] for number in range(count)]
    symbol = mx.sym.load_json(json.dumps(graph))
    with pytest.raises(mx.MXNetError, match=f"{count} predictions and 2 strides"):
        symbol.infer_shape()
