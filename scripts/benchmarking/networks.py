# SPDX-License-Identifier: Apache-2.0
"""The networks that the inference benchmark measures, and their weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon

from gluondense.analysis.costs import summary
from gluondense.commands.parser import field
from gluondense.deploy.detector import network_block
from gluondense.deploy.exporter import parameter_arrays
from gluondense.detection.registry import YOLO, build_network, detector_names, is_detector
from gluondense.detection.spec import ANCHORS_PER_SCALE, DetectorSpec
from gluondense.environment.process import import_gluoncv
from gluondense.errors import check, check_known
from gluondense.graph.ir import Graph
from gluondense.graph.ranges import as_block
from gluondense.graph.split_detector import split_detector
from gluondense.graph.trace import trace
from gluondense.training.checkpoint import read

CLASSES = ("0", "1", "2")  # of a detector for other data than VOC and COCO
# Boxes of an image whose score reaches the threshold of the non-maximum suppression. A detector
# that was trained on BCCD has as many; one with random weights would have none or all.
CANDIDATES = 125
SCORE = DetectorSpec.score_threshold  # GluonCV's detectors have the same


def build(model: str, fields: Mapping[str, Any]) -> gluon.HybridBlock:
    """Build a network; only that of a run has its weights.

    Parameters
    ----------
    model
        A name of :func:`gluondense.list_models` or of :func:`gluondense.detection.list_detectors`,
        optionally with fields of its spec, as in ``yolo3_efm_csp_peleenet_custom:attention=null``;
        one of GluonCV's YOLOv3; or the folder of a run.
    fields
        Fields of the spec of all networks that are built by gluondense's names.

    Raises
    ------
    ValueError
        If a name or a field is unknown, or the detector is no YOLOv3.
    """
    if Path(model).is_dir():
        return read.load(model).network()
    name, *own = re.split(r":(?=\w+=)", model)
    fields = {**fields, **dict(map(field, own))}
    if not is_detector(name):
        return build_network(name, **fields)
    check("model", name, f"a classifier or a {YOLO} detector", name.startswith(YOLO))
    custom = name.endswith("_custom")
    if name in detector_names():
        return build_network(name, **({"classes": CLASSES} if custom else {}), **fields)
    zoo = import_gluoncv().model_zoo
    known = [*detector_names(), *(each for each in zoo.get_model_list() if each.startswith(YOLO))]
    check_known("detector", name, known)
    options = {"classes": list(CLASSES)} if custom else {}
    net = zoo.get_model(name, pretrained_base=False, **options)
    net.hybridize(static_alloc=True, static_shape=True)
    net.model_name, net.input_size = name, DetectorSpec.input_size
    return net


def label(model: str, net: gluon.HybridBlock) -> str:
    """Return what results call a network: its name with the fields, or the name of its run."""
    return f"{net.model_name} of {Path(model).resolve().name}" if Path(model).is_dir() else model


def is_of_gluoncv(net: gluon.HybridBlock) -> bool:
    """Return whether a network is one of GluonCV's zoo."""
    return type(net).__module__.startswith("gluoncv.")


def in_channels(net: gluon.HybridBlock) -> int:
    """Return the number of channels of a network's images."""
    return net.spec.in_channels if hasattr(net, "spec") else 3


def input_size(net: gluon.HybridBlock) -> int:
    """Return the side of the images that a network is designed for."""
    return getattr(net, "input_size", None) or summary(net).input_shape[-1]


def is_initialized(net: gluon.HybridBlock) -> bool:
    """Return whether all parameters have values."""
    return all(parameter._data is not None for parameter in net.collect_params().values())


def randomize(net: gluon.HybridBlock, images: np.ndarray) -> None:
    """Initialize a network: with random weights, that are equal in every run.

    A classifier's normalizations are random too. Those of a detector have the statistics of
    ``images``, (N, C, H, W), and of as much noise, with which exports are verified. Its scores are
    shifted so that ``CANDIDATES`` boxes of an image enter the non-maximum suppression.
    """
    rng = np.random.default_rng(0)
    mx.random.seed(0)
    net.initialize()
    if hasattr(net, "yolo_outputs"):
        net(mx.nd.array(images))  # infers the shapes
        noise = rng.standard_normal(images.shape, dtype="float32")
        _set_statistics(net, np.concatenate([images, noise]))
        _set_predictions(net, images)
        return
    for name, parameter in net.collect_params().items():
        if name.endswith(("gamma", "running_var")):
            parameter.set_data(mx.nd.array(rng.uniform(0.5, 1.5, parameter.shape)))
        elif name.endswith(("beta", "running_mean")):
            parameter.set_data(mx.nd.array(rng.uniform(-0.5, 0.5, parameter.shape)))


def _set_statistics(net: gluon.HybridBlock, images: np.ndarray) -> None:
    """Set the statistics of all batch normalizations to those of the images."""
    parts = split_detector(trace(net))
    assert parts is not None
    graph = Graph(parts.network, parameter_arrays(net))
    norms = [node for node in graph.operators() if node.op == "BatchNorm"]
    graph.heads = [node.inputs[0] for node in norms]
    block = as_block(*graph.to_symbol())
    with autograd.train_mode():  # each normalization uses the statistics of its own input
        inputs = block(mx.nd.array(images))
    parameters = net.collect_params()
    for node, array in zip(norms, inputs):
        mean, var = (node.inputs[index][0].name for index in (3, 4))
        values = array.asnumpy().astype("float64")
        parameters[mean].set_data(mx.nd.array(values.mean((0, 2, 3))))
        parameters[var].set_data(mx.nd.array(values.var((0, 2, 3))))


def _set_predictions(net: Any, images: np.ndarray) -> None:
    """Give predictions a standard deviation of about 1, and shift the scores."""
    layers = [output.prediction for output in net.yolo_outputs]
    for layer in layers:
        deviation = layer.weight.shape[1] ** -0.5
        layer.weight.set_data(mx.nd.random.normal(0, deviation, layer.weight.shape))
    parts = split_detector(trace(net))
    assert parts is not None
    network = network_block(parts, parameter_arrays(net), mx.cpu())
    maps = [each.asnumpy() for each in network(mx.nd.array(images))]
    maps = [each.reshape(len(images), ANCHORS_PER_SCALE, -1, each[0, 0].size) for each in maps]
    objectness, logits = (
        np.concatenate([each[:, :, rows] for each in maps], axis=3)
        for rows in (slice(4, 5), slice(5, None))
    )
    low, high = -50.0, 50.0
    for _ in range(50):
        shift = (low + high) / 2
        scores = _sigmoid(objectness + shift) * _sigmoid(logits)
        above = (scores >= SCORE).sum() > CANDIDATES * len(images)
        low, high = (low, shift) if above else (shift, high)
    for layer in layers:
        bias = layer.bias.data().reshape((ANCHORS_PER_SCALE, -1))
        bias[:, 4] += low
        layer.bias.set_data(bias.reshape((-1,)))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
