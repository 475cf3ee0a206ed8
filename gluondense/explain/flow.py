# SPDX-License-Identifier: Apache-2.0
"""Gradient flow: which layers the gradient of a feature map comes through.

CSPNet (Wang et al. 2019, eq. 2, 4 and 8) writes the update of a dense layer's weight as a function
of the gradients of the feature maps that it reads: w_k' = f(w_k, {g_0, g_1 … g_k-1}). Each g_i is
in the sets of all layers after i; the paper calls this duplicated gradient information, which
transitions truncate. Here these sets are measured: the gradient of the loss with respect to a
feature map is the sum of the gradients that come directly through each layer that reads it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon
from mxnet.ndarray import NDArray

from ..errors import check_known
from ..graph.ir import Node
from ..graph.trace import INPUT
from ..models.network import Network
from .channels import LAYERS, Channels, Origin, read_by
from .cut import run
from .dense_stages import INPUTS, DenseStage, dense_stages

NEXT = "next stage"
FEATURE_MAPS = {"input": "x0", **{name: name for name in INPUTS}}


@dataclass(frozen=True)
class GradientFlow:
    """The gradients of a stage's feature maps, by the layers that they come through.

    Parameters
    ----------
    stage
        Name of the stage.
    readers
        Labels of the rows: the layers with weights that the gradients pass.
    sources
        Labels of the columns: the feature maps, ``"x0"`` or its parts, ``"x1"`` …
    norms
        L2 norms (readers, sources) of the gradients that come through each layer directly. It is
        exactly 0 where the layer does not read the feature map: there the flow is truncated.
    totals
        L2 norms (sources,) of the gradients of the loss with respect to the feature maps.
    remainder
        Largest relative difference between the gradient of a feature map and the sum of its parts;
        float32 rounding, if ``readers`` are all that there are.
    """

    stage: str
    readers: tuple[str, ...]
    sources: tuple[str, ...]
    norms: np.ndarray
    totals: np.ndarray
    remainder: float

    @property
    def shares(self) -> np.ndarray:
        """The norms divided by the sum of their column, in [0, 1]."""
        sums = self.norms.sum(axis=0, keepdims=True)
        return self.norms / np.where(sums > 0, sums, 1)

    @property
    def gradients(self) -> tuple[str, ...]:
        """Names of the gradients of the sources: ``"g0"`` is that of ``"x0"``."""
        return tuple(name.replace("x", "g", 1) for name in self.sources)

    def set_of(self, reader: str) -> tuple[str, ...]:
        """Return the feature maps whose gradients pass a layer: its set in the paper's equations.

        Examples
        --------
        >>> flow = GradientFlow("stage1", ("w2",), ("x0", "x1"), np.ones((1, 2)), np.ones(2), 0.0)
        >>> flow.set_of("w2")
        ('g0', 'g1')
        """
        row = self.norms[self.readers.index(reader)]
        return tuple(name for name, norm in zip(self.gradients, row) if norm)


def gradient_flow(
    net: Network, images: np.ndarray, labels: np.ndarray, stage: str = "stage1"
) -> GradientFlow:
    """Measure the gradient flow in a dense stage for the cross-entropy of a batch.

    Normalizations use the statistics of the batch, as in training; there is no dropout in the
    stage. The network does not change.

    Parameters
    ----------
    net
        A DenseNet or CSP-DenseNet of :func:`gluondense.get_model`, initialized, on the CPU, with
        global average pooling and without attention.
    images, labels
        Images (N, C, H, W) and classes (N,).
    stage
        Name of a stage.

    Raises
    ------
    ValueError
        If the network or the stage is another one.

    Examples
    --------
    >>> import gluondense
    >>> fields = {"block_config": (2, 2), "growth_rate": 16, "stem": "cifar"}
    >>> net = gluondense.get_model("csp_densenet121", fusion="both", **fields)
    >>> net.initialize()
    >>> images = np.random.default_rng(0).standard_normal((2, 3, 8, 8))
    >>> flow = gradient_flow(net, images, np.array([0, 1]))
    >>> [(reader, flow.set_of(reader)) for reader in flow.readers]
    [('w1', ('g0″',)), ('w2', ('g0″', 'g1')), ('wT', ('g0″', 'g1', 'g2')), ('wU', ('g0′', 'gT'))]
    """
    stages = {found.name: found for found in dense_stages(net)}
    check_known("stage", stage, stages)
    found = stages[stage]
    spec = net.spec
    concatenates = all(part.node.op in (*LAYERS, "null") for part in _parts(found))
    if not concatenates or spec.attention or spec.pool != "avg" or not hasattr(net, "output"):
        raise ValueError(
            f"{net.model_name} has other paths than concatenations and convolutions: use a "
            "DenseNet or CSP-DenseNet without attention, with pool='avg' and an output."
        )
    probes = _Probes(found)
    with _statistics_restored(net):
        with autograd.train_mode():
            data = run(found.before, mx.nd.array(images))
        gradients = probes.gradients(net, data, mx.nd.array(labels))
    return probes.flow(gradients)


def _parts(stage: DenseStage) -> set[Channels]:
    """Return the origins of all channels that the stage's layers read."""
    return {part for _, node in stage.readers() for part in stage.origins[id(node.source())]}


@contextmanager
def _statistics_restored(net: Network) -> Iterator[None]:
    """Undo the updates of the running statistics at the end."""
    statistics = [item for item in net.collect_params().values() if item.grad_req == "null"]
    before = [parameter.data().copy() for parameter in statistics]
    try:
        yield
    finally:
        for parameter, value in zip(statistics, before):
            parameter.set_data(value)


class _Probes:
    """A stage's graph in which zeros are added to each feature map and to each layer's input.

    The gradient with respect to these zeros is that of the tensor they are added to: of a layer's
    input, which comes through this layer only, or of a feature map, which comes through all layers.
    """

    def __init__(self, stage: DenseStage) -> None:
        self._stage, self._graph = stage, stage.graph
        self._readers: dict[str, Origin] = {}
        parts = {part for origin in stage.origins.values() for part in origin}
        self._labels = {part: stage.label(part) for part in parts}
        order = stage.order(set(self._labels.values()))  # before the graph changes
        for label, node in stage.readers():
            name = f"w{label}" if label.isdigit() or label in "TU" else label
            self._probe_input(name, node)
        ((head, _),) = self._graph.heads
        end = Node("identity", "end", inputs=[(head, 0)])
        if read_by(end)[0].op not in LAYERS:  # the next stage reads the concatenated feature maps
            self._probe_input(NEXT, end)
            self._graph.heads = [(end, 0)]
        self._sources = list(dict.fromkeys(p for o in self._readers.values() for p in o))
        read = {self._labels[part] for part in self._sources}
        self._order = [label for label in order if label in read]
        for node in {id(part.node): part.node for part in self._sources}.values():
            if node.op != "null":
                self._graph.replace(node, self._probed(node, f"of {node.name}"))

    def _probe_input(self, label: str, layer: Node) -> None:
        source, between = read_by(layer)
        self._readers[label] = self._stage.origins[id(source)]
        consumer = between[-1] if between else layer
        consumer.inputs[0] = (self._probed(source, f"to {label}"), 0)

    def _probed(self, node: Node, name: str) -> Node:
        variable = Node("null", name)
        return Node("elemwise_add", f"{name} added", inputs=[(node, 0), (variable, 0)])

    def gradients(self, net: Network, data: NDArray, labels: NDArray) -> dict[str, np.ndarray]:
        """Return the gradients of the loss with respect to the input and all probes, by name."""
        symbol, _ = self._graph.to_symbol()
        parameters = net.collect_params()
        inferred, _, _ = symbol.infer_shape(**{INPUT: data.shape})
        shapes = dict(zip(symbol.list_arguments(), inferred))
        probes = {name: mx.nd.zeros(shapes[name]) for name in shapes if name not in parameters}
        probes[INPUT] = data
        for array in probes.values():
            array.attach_grad()
        # Copies, because the operator updates the running statistics.
        arrays = [
            probes[name] if name in probes else parameters[name].data().copy()
            for name in symbol.list_inputs()
        ]
        with autograd.record():
            output = mx.nd.CachedOp(symbol, [])(*arrays)
            logits = run(self._stage.after, output)
            loss = gluon.loss.SoftmaxCrossEntropyLoss()(logits, labels).mean()
        found = autograd.grad([loss], list(probes.values()))
        return {name: gradient.asnumpy() for name, gradient in zip(probes, found)}

    def flow(self, gradients: dict[str, np.ndarray]) -> GradientFlow:
        """Assign the gradients to the layers that they come through."""
        order = self._order
        columns = {part: order.index(self._labels[part]) for part in self._sources}
        norms, totals = np.zeros((len(self._readers), len(order))), np.zeros(len(order))
        rest: dict[Channels, np.ndarray] = {}
        for part in self._sources:
            name = INPUT if part.node.name == INPUT else f"of {part.node.name}"
            rest[part] = gradients[name][:, part.begin : part.end].astype(np.float64)
            totals[columns[part]] = np.linalg.norm(rest[part])
        for row, (reader, origin) in enumerate(self._readers.items()):
            ends = np.cumsum([part.width for part in origin])
            pieces = np.split(gradients[f"to {reader}"], ends[:-1], axis=1)
            for part, piece in zip(origin, pieces):
                norms[row, columns[part]] = np.linalg.norm(piece)
                rest[part] = rest[part] - piece
        remainder = max(
            np.linalg.norm(rest[part]) / totals[columns[part]] for part in self._sources
        )
        sources = tuple(FEATURE_MAPS.get(label, f"x{label}") for label in order)
        return GradientFlow(
            self._stage.name, tuple(self._readers), sources, norms, totals, float(remainder)
        )
