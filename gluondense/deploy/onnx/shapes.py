# SPDX-License-Identifier: Apache-2.0
"""Translations of the operators that change shapes to ONNX operators of opset 13."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Callable

import numpy as np

from ...graph.ir import Node
from .attributes import require, unsupported

if TYPE_CHECKING:
    from .operators import Writer

END = np.iinfo("int64").max


Translator = Callable[..., str]


def _slice_axis(to: Writer, node: Node, x: str) -> str:
    begin, end = node.value("begin", 0), node.value("end", None)
    return slice_to(to, node.name, x, begin, END if end is None else end, node.value("axis", 0))


def slice_to(to: Writer, name: str, x: str, begin: int, end: int, axis: int = 0) -> str:
    """Write a slice of one axis."""
    bounds = {"begin": begin, "end": end, "axis": axis}
    return to.add("Slice", name, x, *(to.integers(f"{name}_{k}", v) for k, v in bounds.items()))


def shape_of(to: Writer, node: Node, x: str, begin: int = 0, end: int = END) -> str:
    """Write nodes that compute a slice of the shape of a tensor at run time."""
    return slice_to(to, f"{node.name}_part", to.add("Shape", f"{node.name}_shape", x), begin, end)


def _reshape_to(to: Writer, node: Node, x: str, parts: Sequence[str]) -> str:
    shape = to.add("Concat", f"{node.name}_to", *parts, axis=0)
    return to.add("Reshape", node.name, x, shape)


def _reshape(to: Writer, node: Node, x: str) -> str:
    target, from_right = list(node.value("shape", ())), node.value("reverse", False)
    # With reverse=True, lengths that stay are counted from the right.
    axis, parts = -len(target) if from_right else 0, []
    while target:
        length = target.pop(0)
        if length == -4 and not from_right:  # splits an axis in two
            parts += [to.integers(f"{node.name}_n", target.pop(0)) for _ in range(2)]
        elif length == -2 and not from_right:  # all that are left
            parts.append(shape_of(to, node, x, axis))
        elif length == 0:
            parts.append(shape_of(to, node, x, axis, END if axis == -1 else axis + 1))
        elif length >= -1:
            parts.append(to.integers(f"{node.name}_n", length))
        else:
            raise unsupported(node, f" with shape={node.attrs['shape']}")
        axis += 1
    return _reshape_to(to, node, x, parts)


def _reshape_like(to: Writer, node: Node, x: str, like: str) -> str:
    sides = {
        side: (node.value(f"{side}_begin", 0) or 0, node.value(f"{side}_end", END) or END)
        for side in ("lhs", "rhs")
    }
    begin, end = sides["lhs"]
    before, after = shape_of(to, node, x, 0, begin), shape_of(to, node, x, end)
    return _reshape_to(to, node, x, [before, shape_of(to, node, like, *sides["rhs"]), after])


def _slice_like(to: Writer, node: Node, x: str, like: str) -> str:
    axes = node.value("axes", None)
    if axes is None or min(axes) < 0:
        raise unsupported(node, f" with axes={node.attrs.get('axes')}")
    name, shape = node.name, to.add("Shape", f"{node.name}_shape", like)
    begin, taken = (
        to.integers(f"{name}_begin", *[0] * len(axes)),
        to.integers(f"{name}_axis", *axes),
    )
    return to.add("Slice", name, x, begin, to.add("Gather", f"{name}_end", shape, taken), taken)


def _repeat(to: Writer, node: Node, x: str) -> str:
    """Repeat each element along an axis: broadcast along a new axis behind it, and merge both."""
    name, axis, repeats = node.name, node.value("axis", 0), node.value("repeats", 1)
    if axis is None or axis >= 0:
        raise unsupported(node, f" with axis={axis}")
    apart = to.add("Unsqueeze", f"{name}_apart", x, to.integers(f"{name}_axes", axis))
    times = to.integers(f"{name}_times", repeats, *[1] * (-axis - 1))
    repeated = to.add("Expand", f"{name}_repeated", apart, times)
    before, after = shape_of(to, node, x, 0, axis), [shape_of(to, node, x, axis + 1)] * (axis < -1)
    return _reshape_to(to, node, repeated, [before, to.integers(f"{name}_n", -1), *after])


def _tile(to: Writer, node: Node, x: str) -> str:
    """Broadcast an axis of length 1, also a new one in front; runtimes refuse any other axis."""
    return to.add("Expand", node.name, x, to.integers(f"{node.name}_reps", *node.value("reps", ())))


def _arange(to: Writer, node: Node) -> str:
    begin, end, step = (float(node.value(key, 1)) for key in ("start", "stop", "step"))
    require(node, repeat="1", infer_range="False", dtype="float32")
    return to.constant(node.name, np.arange(begin, end, step, "float32"))


def _zeros_like(to: Writer, node: Node, x: str) -> str:
    return to.add("ConstantOfShape", node.name, to.add("Shape", f"{node.name}_shape", x))


def _upsampling(to: Writer, node: Node, x: str) -> str:
    require(node, sample_type="nearest", num_args="1")
    scale = float(node.attrs["scale"])
    scales = to.constant(f"{node.name}_scales", np.array([1, 1, scale, scale], "float32"))
    options = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return to.add("Resize", node.name, x, "", scales, mode="nearest", **options)


def _space_to_depth(to: Writer, node: Node, x: str) -> str:
    return to.add("SpaceToDepth", node.name, x, blocksize=node.value("block_size"))


def _axis(op: str) -> Translator:
    def translate(to: Writer, node: Node, x: str) -> str:
        axes = np.atleast_1d(node.value("axis", ())).tolist()
        return to.add(op, node.name, x, to.integers(f"{node.name}_axes", *axes))

    return translate


SHAPES: dict[str, Translator] = {
    "Reshape": _reshape,
    "UpSampling": _upsampling,
    "_arange": _arange,
    "expand_dims": _axis("Unsqueeze"),
    "repeat": _repeat,
    "reshape_like": _reshape_like,
    "slice_axis": _slice_axis,
    "slice_like": _slice_like,
    "space_to_depth": _space_to_depth,
    "squeeze": _axis("Squeeze"),
    "tile": _tile,
    "zeros_like": _zeros_like,
}
