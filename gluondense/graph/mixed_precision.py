# SPDX-License-Identifier: Apache-2.0
"""Mixed precision: casts that let a graph compute in float16 or bfloat16.

The casts are those of MXNet AMP, restricted to its lists' operators that occur here.
"""

from __future__ import annotations

from .ir import Graph, Node
from .recompute import MARK

HALF_PRECISION = frozenset({"Convolution", "FullyConnected"})
# Operators that compute in float32 even between half-precision ones, as in MXNet AMP; the kernel of
# SyncBatchNorm takes no other dtype. On the CPU, only the HALF_PRECISION operators compute in
# bfloat16: MXNet's bfloat16 gradients of pooling, normalization and concatenation are wrong there.
FULL_PRECISION = frozenset({"softmax", "LayerNorm", "_contrib_SyncBatchNorm"})
# Parameters and statistics of these stay in float32; only their first input is cast.
NORMALIZATION = frozenset(
    {"BatchNorm", "LayerNorm", "_contrib_BatchNormWithReLU", "_contrib_SyncBatchNorm"}
)


def use_mixed_precision(graph: Graph, dtype: str) -> None:
    """Cast the inputs of convolutions and fully-connected layers to ``dtype``, outputs to float32.

    ``dtype`` is ``"float16"`` or ``"bfloat16"``. In float16, the operators between them compute in
    float16 too, except those of ``FULL_PRECISION`` and products with parameters, which may be too
    small for float16 (layer scale begins at 1e-6). A cast of a node that is marked for
    recomputation is marked too.
    """
    dtypes: dict[int, str] = {}
    lowered: set[int] = set()  # nodes whose readers compute in float16
    casts: dict[tuple[int, int, str], Node] = {}

    def cast(entry: tuple[Node, int], target: str) -> tuple[Node, int]:
        node, output = entry
        if dtypes.get(id(node), "float32") == target:
            return entry
        key = id(node), output, target
        if key not in casts:
            name = f"{node.name}_{output}_{target}"
            casts[key] = Node("amp_cast", name, {"dtype": target}, [entry])
            if MARK in node.attrs:
                casts[key].attrs[MARK] = "True"
        return casts[key], 0

    for node in graph.operators():
        data = node.inputs[:1] if node.op in NORMALIZATION else node.inputs
        follows = dtype == "float16" and any(id(source) in lowered for source, _ in data)
        is_full = node.op in FULL_PRECISION or any(_is_parameter(source) for source, _ in data)
        low = node.op in HALF_PRECISION or (follows and not is_full)
        if low or follows:
            lowered.add(id(node))
        dtypes[id(node)] = target = dtype if low else "float32"
        node.inputs = [cast(entry, target) for entry in data] + node.inputs[len(data) :]
    graph.heads = [cast(entry, "float32") for entry in graph.heads]


def _is_parameter(node: Node) -> bool:
    """Return whether a node is a variable, or a view of one."""
    is_view = node.op in ("Reshape", "transpose")
    return node.op == "null" or (is_view and _is_parameter(node.source()))
