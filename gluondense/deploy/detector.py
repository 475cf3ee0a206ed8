# SPDX-License-Identifier: Apache-2.0
"""Export of detectors: targets lower the network, and boxes are decoded from its outputs.

Exports are verified on the outputs of the network, its last convolutions. Non-maximum suppression
is not continuous: a rounding error may exchange two boxes of nearly equal scores, or let one
suppress another, so that the boxes of two equal networks cannot be compared by a tolerance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mxnet as mx
import numpy as np
from mxnet import gluon

from ..analysis.detection.detections import Detections
from ..analysis.detection.matching import match
from ..data.detections import THRESHOLD
from ..graph.ir import Lowered, Params
from ..graph.ranges import as_block
from ..graph.split_detector import SplitDetector
from ..native.build import BOXES, load
from .artifact_files import is_native
from .onnx.join import join_onnx
from .quantization.calibration import Calibration
from .targets import lower_to

_ALL = 2**31 - 1  # boxes: no limit


def network_params(parts: SplitDetector, params: Params) -> Params:
    """Return the arrays of the network, without the constants of the boxes' decoding."""
    names = {*parts.network.list_arguments(), *parts.network.list_auxiliary_states()}
    return {name: array for name, array in params.items() if name in names}


def network_block(parts: SplitDetector, params: Params, ctx: mx.Context) -> gluon.SymbolBlock:
    """Return a block that gives the outputs of the network."""
    return as_block(parts.network, network_params(parts, params), ctx)


def native_boxes(net: gluon.HybridBlock, tensors: Sequence[str]) -> mx.sym.Symbol | None:
    """Return the native operator that decodes and suppresses a YOLOv3's boxes.

    None if other tensors than the predictions of its scales are decoded, or nothing is suppressed.
    """
    scales = getattr(net, "yolo_outputs", ())
    by_name = {f"{scale.prediction.name}_fwd_output": scale for scale in scales}
    if set(tensors) != set(by_name) or not hasattr(net, "spec"):
        return None
    if not 0 < net.nms_thresh < 1 or net.nms_topk == 0:
        return None
    load(BOXES)
    anchors = [by_name[name].anchors.value.asnumpy().ravel() for name in tensors]
    return getattr(mx.sym, BOXES)(
        *map(mx.sym.var, tensors),
        strides=",".join(str(by_name[name]._stride) for name in tensors),
        anchors=",".join(map(repr, np.concatenate(anchors).tolist())),
        nms_threshold=net.nms_thresh,
        score_threshold=net.spec.score_threshold,
        topk=net.nms_topk if net.nms_topk > 0 else _ALL,
        post_nms=net.post_nms if net.post_nms > 0 else _ALL,
        name=f"{net.prefix}boxes",
    )


def lower_detector(
    target: str,
    net: gluon.HybridBlock,
    parts: SplitDetector,
    params: Params,
    shape: tuple[int, ...],
    calibration: Calibration | None,
) -> tuple[Lowered, tuple[str, ...]]:
    """Lower a detector's network and append the decoding of boxes.

    Returns the whole graph, and the names of the network's outputs in it.
    """
    own = network_params(parts, params)
    lowered = lower_to(target, parts.network, own, shape, calibration)
    tensors = output_names(lowered.graph)
    if not isinstance(lowered.graph, str):
        return lowered._replace(graph=join_onnx(lowered.graph, parts, params)), tensors
    boxes = native_boxes(net, parts.tensors) if is_native(target) else None
    parts = parts if boxes is None else parts._replace(boxes=boxes)
    constants = {name: params[name] for name in parts.boxes.list_arguments() if name in params}
    graph = parts.join(lowered.graph, portable=target == "portable")
    return lowered._replace(graph=graph, params={**lowered.params, **constants}), tensors


def output_names(graph: Any) -> tuple[str, ...]:
    """Return the names of the outputs of an MXNet graph, as JSON, or an ONNX model."""
    if isinstance(graph, str):
        return tuple(mx.sym.load_json(graph).list_outputs())
    return tuple(output.name for output in graph.graph.output)


def check_boxes(outputs: Sequence[np.ndarray], shapes: Sequence[tuple[int, ...]]) -> None:
    """Raise a RuntimeError if a loaded detector's outputs do not have the network's shapes."""
    found, expected = [array.shape[1:] for array in outputs], [shape[1:] for shape in shapes]
    if found != expected:
        raise RuntimeError(
            f"an image's boxes have the shapes {found} instead of {expected}, so nothing "
            "was written: please report this with the network's spec."
        )


def box_agreement(
    outputs: Sequence[np.ndarray], expected: Sequence[np.ndarray], threshold: float = THRESHOLD
) -> float | None:
    """Return the share of the boxes of two detectors that both find, as an F1 score.

    Arguments are ids, scores and boxes of the same images. Boxes are found by both if they have one
    class and an intersection over union of 0.5 or more. Those below the threshold do not count; the
    result is None if there is none.

    Examples
    --------
    >>> one = [np.zeros((1, 1, 1)), np.full((1, 1, 1), 0.9), np.array([[[0, 0, 8, 8.0]]])]
    >>> box_agreement(one, one), box_agreement(one, [*one[:2], one[2] + 5])
    (1.0, 0.0)
    """
    found, wanted = (
        np.where(each[..., 1:2] >= threshold, each, -1)
        for each in (np.concatenate(arrays, axis=2) for arrays in (outputs, expected))
    )
    truth = np.concatenate([wanted[..., 2:], wanted[..., :1], 0 * wanted[..., :1]], axis=2)
    matches = match(Detections(found, truth, np.ones((len(found), 6))))
    count = len(matches.labels) + len(matches.true_labels)
    return 2 * float(matches.found().sum()) / count if count else None
