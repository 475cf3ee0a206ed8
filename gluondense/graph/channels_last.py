# SPDX-License-Identifier: Apache-2.0
"""Channels-last graphs: feature maps (N, H, W, C), which tensor cores compute in float16.

The graph keeps the network's interface: its input is (N, C, H, W), its parameters and their
gradients have the shapes of the NCHW network. Weights are transposed within the graph; they are
small beside the feature maps of a training step. So parameters, checkpoints, optimizers and exports
need no conversion, one network can run in either layout, and no block has an argument for it.
"""

from __future__ import annotations

from .ir import Graph, Node

Entry = tuple[Node, int]  # an output of a node
Key = tuple[int, int]  # the id of the node, and the index of the output

LAYOUTS = ("NCHW", "NHWC")

TO_NHWC, TO_NCHW = "(0, 2, 3, 1)", "(0, 3, 1, 2)"
# Operators that compute each value from those at its own position: they work in any layout, if all
# their inputs have the same one.
POINTWISE = frozenset(
    {
        *("Activation", "Dropout", "LeakyReLU", "amp_cast", "Cast", "_copy", "clip"),
        *("elemwise_add", "elemwise_sub", "elemwise_mul", "broadcast_add", "broadcast_mul"),
        *("broadcast_sub", "broadcast_div", "_mul_scalar", "_plus_scalar", "_div_scalar"),
        *("sigmoid", "tanh", "relu", "erf"),
    }
)
# Operators with an axis: the attribute's name and default.
WITH_AXIS = {"BatchNorm": ("axis", "1"), "Concat": ("dim", "1"), "slice_axis": ("axis", "1")}
MOVED = (0, 3, 1, 2)  # position of each axis of NCHW in NHWC


def use_channels_last(graph: Graph) -> int:
    """Let convolutions and what lies between them compute in NHWC; return their number.

    Feature maps are transposed where the graph enters and leaves these operators, and around any
    operator that is not known here, so that the result is that of the NCHW graph. Apply this pass
    after those that read the shapes of feature maps, and before mixed precision.
    """
    # Where each entry of the graph is found in either layout; an absent one is in NCHW as it was.
    nchw: dict[Key, Entry] = {}
    nhwc: dict[Key, Entry] = {}
    copies: dict[Key, Entry] = {}

    def in_nchw(entry: Entry) -> Entry:
        key = _key(entry)
        if key in nhwc and key not in nchw:
            nchw[key] = _transpose(nhwc[key], TO_NCHW)
        return nchw.get(key, entry)

    def in_nhwc(entry: Entry) -> Entry:
        key = _key(entry)
        if key not in nhwc and key not in copies:
            copies[key] = _transpose(in_nchw(entry), TO_NHWC)
        return nhwc[key] if key in nhwc else copies[key]

    changed = 0
    for node in list(graph.operators()):
        key = id(node), 0
        known = [_key(entry) in nhwc for entry in node.inputs]
        moves = node.attrs.get("axes") if node.op == "transpose" else None
        if moves == TO_NHWC and known[0]:
            nchw[key] = nhwc[_key(node.inputs[0])]  # what it returns is there already
            continue
        maps = _feature_map_inputs(node, known)
        convert = [in_nhwc if index < maps else in_nchw for index in range(len(node.inputs))]
        node.inputs = [each(entry) for each, entry in zip(convert, node.inputs)]
        if moves == TO_NCHW:
            nhwc[key], nchw[key] = node.inputs[0], (node, 0)
        elif maps:
            _set_layout(node)
            nhwc[key] = node, 0
            changed += 1
    graph.heads = [in_nchw(entry) for entry in graph.heads]
    return changed


def _key(entry: Entry) -> Key:
    return id(entry[0]), entry[1]


def _transpose(entry: Entry, axes: str) -> Entry:
    name = f"{entry[0].name}_{entry[1]}_{'nhwc' if axes == TO_NHWC else 'nchw'}"
    return Node("transpose", name, {"axes": axes}, [entry]), 0


def _feature_map_inputs(node: Node, known: list[bool]) -> int:
    """Return how many of the first inputs of a node it shall read in NHWC; 0 leaves it in NCHW.

    ``known`` tells which inputs are in NHWC. The second input of a convolution is its weight.
    """
    if node.op == "Convolution" and len(node.value("kernel", ())) == 2:
        return 2
    added_axis = node.op in ("expand_dims", "squeeze") and node.attrs.get("axis") == "4"
    if node.op in ("Pooling", "BatchNorm", "slice_axis") or added_axis:
        return int(known[0])
    if node.op == "Dropout" and node.value("axes", ()) not in ((), (1, 2, 3)):
        return 0  # its mask has other axes
    if node.op == "Concat" or node.op in POINTWISE:
        return len(node.inputs) if any(known) else 0
    return 0


def _set_layout(node: Node) -> None:
    """Set the attributes of an operator whose inputs are in NHWC now."""
    if node.op in ("Convolution", "Pooling"):
        node.attrs["layout"] = "NHWC"
    elif node.op in WITH_AXIS:
        name, default = WITH_AXIS[node.op]
        node.attrs[name] = str(MOVED[int(node.attrs.get(name, default))])
