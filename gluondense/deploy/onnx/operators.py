# SPDX-License-Identifier: Apache-2.0
"""Translations of MXNet operators to ONNX operators of opset 13."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...graph.ir import Graph, Node, free_name
from .attributes import choose, require, unsupported, window_of
from .box_nms import box_nms
from .shapes import SHAPES, Translator


class Writer:
    """Builds the ONNX nodes and constants of a graph, node by node."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.dtype = next((a.dtype for a in graph.params.values()), np.dtype("float32"))
        self._names: dict[int, str] = {}
        self._taken: set[str] = set()

    def write(self, node: Node) -> None:
        """Write a node; its inputs must have been written."""
        self._names[id(node)] = self._translate(node)

    def _translate(self, node: Node) -> str:
        if node.op in TRANSLATORS:
            inputs = map(self.name_of, node.inputs)
            return TRANSLATORS[node.op](self, node, *inputs)
        if node.op != "null":
            raise unsupported(node, "")
        if node.name not in self.graph.params:  # an input
            return self._take(node.name)
        return self.constant(node.name, self.graph.params[node.name])

    def name_of(self, entry: tuple[Node, int]) -> str:
        """Return the ONNX name of a node's output."""
        node, output = entry
        if output:
            raise ValueError(f"target='onnx' has no output {output} of {node.op} ({node.name}).")
        return self._names[id(node)]

    def add(self, op: str, name: str, *inputs: str, **attributes: Any) -> str:
        """Add an ONNX node with one output and return the name of the output."""
        return self.add_many(op, name, 1, *inputs, **attributes)[0]

    def add_many(
        self, op: str, name: str, count: int, *inputs: str, **attributes: Any
    ) -> list[str]:
        """Add an ONNX node and return the names of its outputs."""
        from onnx import helper

        names = [self._take(name) for _ in range(count)]
        self.nodes.append(helper.make_node(op, inputs, names, names[0], **attributes))
        return names

    def constant(self, name: str, array: Any) -> str:
        """Add a constant array and return its name."""
        from onnx import numpy_helper

        name = self._take(name)
        self.constants.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def integers(self, name: str, *values: int) -> str:
        """Add a constant array of integers and return its name."""
        return self.constant(name, np.array(values, "int64"))

    def _take(self, name: str) -> str:
        return free_name(name, self._taken)


def _convolution(to: Writer, node: Node, *inputs: str) -> str:
    require(node, layout="NCHW")
    window = window_of(node)
    dilations = node.value("dilate", (1,) * len(window["kernel_shape"]))
    group = node.value("num_group", 1)
    return to.add("Conv", node.name, *inputs, group=group, dilations=dilations, **window)


def _batch_norm(to: Writer, node: Node, x: str, gamma: str, *rest: str) -> str:
    require(node, axis="1")
    if node.flag("fix_gamma", True):
        gamma = to.constant(f"{node.name}_gamma", np.ones_like(to.graph.array(node, 1)))
    epsilon = node.value("eps", 1e-3)
    return to.add("BatchNormalization", node.name, x, gamma, *rest, epsilon=epsilon)


def _pooling(to: Writer, node: Node, x: str) -> str:
    require(node, layout="NCHW")
    kind = choose(node, "pool_type", {"avg": "Average", "max": "Max"}, "max")
    if node.value("global_pool", False):
        return to.add(f"Global{kind}Pool", node.name, x)
    window, convention = window_of(node), node.attrs.get("pooling_convention", "valid")
    if (convention == "full" and any(window["pads"])) or convention == "same":
        # Runtimes disagree on windows that extend beyond a padded edge.
        raise unsupported(node, f" with pad and pooling_convention={convention}")
    options = {**window, "ceil_mode": int(convention == "full")}
    if kind == "Average" and any(window["pads"]):
        options["count_include_pad"] = int(node.value("count_include_pad", True))
    return to.add(f"{kind}Pool", node.name, x, **options)


def _fully_connected(to: Writer, node: Node, x: str, weight: str, *bias: str) -> str:
    if node.value("flatten", True):
        if node.source().op != "Flatten":
            x = to.add("Flatten", f"{node.name}_flatten", x)
        return to.add("Gemm", node.name, x, weight, *bias, transB=1)
    weight = to.add("Transpose", f"{node.name}_transposed", weight)
    product = to.add("MatMul", node.name, x, weight)
    return to.add("Add", f"{node.name}_plus", product, *bias) if bias else product


def _activation(to: Writer, node: Node, x: str) -> str:
    ops = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softrelu": "Softplus"}
    return to.add(choose(node, "act_type", ops), node.name, x)


def _leaky_relu(to: Writer, node: Node, x: str, *slope: str) -> str:
    if node.attrs.get("act_type") == "gelu":
        return _gelu(to, node.name, x)
    op = choose(node, "act_type", {"leaky": "LeakyRelu", "elu": "Elu"}, "leaky")
    return to.add(op, node.name, x, alpha=node.value("slope", 0.25))


def _gelu(to: Writer, name: str, x: str) -> str:
    """Write x (1 + erf(x / sqrt 2)) / 2 as PyTorch's exporter does, which runtimes fuse."""
    root, one, half = (
        to.constant(f"{name}_{part}", to.dtype.type(value))
        for part, value in (("root", math.sqrt(2)), ("one", 1), ("half", 0.5))
    )
    erf = to.add("Erf", f"{name}_erf", to.add("Div", f"{name}_scaled", x, root))
    product = to.add("Mul", f"{name}_product", x, to.add("Add", f"{name}_plus", erf, one))
    return to.add("Mul", name, product, half)


def _layer_norm(to: Writer, node: Node, x: str, gamma: str, beta: str) -> str:
    """Write the operators that runtimes fuse; opset 13 has no LayerNormalization."""
    require(node, axis="-1")
    name = node.name
    eps, two = (
        to.constant(f"{name}_{part}", to.dtype.type(value))
        for part, value in (("eps", node.value("eps", 1e-5)), ("two", 2))
    )
    mean = to.add("ReduceMean", f"{name}_mean", x, axes=[-1], keepdims=1)
    centered = to.add("Sub", f"{name}_centered", x, mean)
    square = to.add("Pow", f"{name}_square", centered, two)
    variance = to.add("ReduceMean", f"{name}_variance", square, axes=[-1], keepdims=1)
    deviation = to.add("Sqrt", f"{name}_deviation", to.add("Add", f"{name}_plus", variance, eps))
    normal = to.add("Div", f"{name}_normal", centered, deviation)
    return to.add("Add", name, to.add("Mul", f"{name}_scaled", normal, gamma), beta)


def _clip(to: Writer, node: Node, x: str) -> str:
    bounds = {key: to.dtype.type(float(node.attrs[key])) for key in ("a_min", "a_max")}
    return to.add(
        "Clip", node.name, x, *(to.constant(f"{node.name}_{k}", v) for k, v in bounds.items())
    )


def _dropout(to: Writer, node: Node, x: str) -> str:
    require(node, mode="training")
    return x


def _transpose(to: Writer, node: Node, x: str) -> str:
    axes = node.value("axes", None)
    return to.add("Transpose", node.name, x, **({"perm": axes} if axes else {}))


def _cast(to: Writer, node: Node, x: str) -> str:
    from onnx import helper

    wanted = helper.np_dtype_to_tensor_dtype(np.dtype(node.attrs["dtype"]))
    return to.add("Cast", node.name, x, to=wanted)


def _maximum(to: Writer, node: Node, x: str) -> str:
    axes = np.atleast_1d(node.value("axis", ())).tolist()
    require(node, exclude="False")
    return to.add("ReduceMax", node.name, x, axes=axes, keepdims=int(node.flag("keepdims")))


def _softmax(op: str) -> Translator:
    def translate(to: Writer, node: Node, x: str) -> str:
        require(node, temperature="None", use_length="False")
        return to.add(op, node.name, x, axis=node.value("axis", -1))

    return translate


def _scalar(op: str) -> Translator:
    def translate(to: Writer, node: Node, x: str) -> str:
        number = to.dtype.type(float(node.attrs["scalar"]))
        return to.add(op, node.name, x, to.constant(f"{node.name}_scalar", number))

    return translate


def _same(op: str) -> Translator:
    return lambda to, node, *inputs: to.add(op, node.name, *inputs)


# The names in ONNX, in MXNet's broadcast_* and in MXNet's _*_scalar.
ARITHMETIC = (
    ("Add", "add", "plus"),
    ("Div", "div", "div"),
    ("Mul", "mul", "mul"),
    ("Sub", "sub", "minus"),
)

TRANSLATORS: dict[str, Translator] = {
    **SHAPES,
    "Activation": _activation,
    "BatchNorm": _batch_norm,
    "Cast": _cast,
    "Concat": lambda to, node, *x: to.add("Concat", node.name, *x, axis=node.value("dim", 1)),
    "Convolution": _convolution,
    "Dropout": _dropout,
    "Flatten": _same("Flatten"),
    "FullyConnected": _fully_connected,
    "LayerNorm": _layer_norm,
    "LeakyReLU": _leaky_relu,
    "Pooling": _pooling,
    "_contrib_box_nms": box_nms,
    "_copy": lambda to, node, x: x,
    "clip": _clip,
    "erf": _same("Erf"),
    "exp": _same("Exp"),
    "max": _maximum,
    "log_softmax": _softmax("LogSoftmax"),
    "sigmoid": _same("Sigmoid"),
    "softmax": _softmax("Softmax"),
    "transpose": _transpose,
    "elemwise_add": _same("Add"),
    "broadcast_maximum": _same("Max"),
    "elemwise_mul": _same("Mul"),
    "elemwise_sub": _same("Sub"),
    **{f"broadcast_{word}": _same(op) for op, word, _ in ARITHMETIC},
    **{f"_{word}_scalar": _scalar(op) for op, _, word in ARITHMETIC},
}
