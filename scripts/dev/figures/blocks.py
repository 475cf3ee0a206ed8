# SPDX-License-Identifier: Apache-2.0
"""What a stage of each family computes, as diagrams of nodes and arrows."""

from __future__ import annotations

from dataclasses import replace

from .diagram import Arrow, Diagram, Node


def _chain(*names: str) -> tuple[Arrow, ...]:
    return tuple(Arrow(source, target) for source, target in zip(names, names[1:]))


def _csp(title: str, rows: dict[str, str], caption: str) -> Diagram:
    """Return a CSP stage; ``rows`` are its nodes after the dense layers, T and join by name."""
    split, layers = Node("x₀″", 2, 1, "map"), Node("L dense layers", 2, 2)
    nodes = {
        "x": Node("x₀, c channels", 1, 0, "map"),
        "bypass": Node("x₀′", 0, 1, "map"),
        "part": split,
        "layers": layers,
    }
    for row, (name, content) in enumerate(rows.items(), start=3):
        kind = {"concat": "join", "out": "map"}.get(name, "")
        nodes[name] = Node(content, 2 if name == "T" else 1, row, kind)
    after = list(rows)
    chain = ("part", "layers", *(["T"] if "T" in rows else []))
    return Diagram(
        title,
        nodes,
        (
            Arrow("x", "bypass", "across", "orange"),
            Arrow("x", "part", "across"),
            *_chain(*chain),
            Arrow("bypass", "concat", "down", "orange"),
            Arrow(chain[-1], "concat", "down"),
            *_chain(*after[after.index("concat") :]),
        ),
        columns=(14, 88, 164),
        caption=caption,
    )


LAYER = Diagram(
    "Dense layer",
    {
        "x": Node("x, c channels", 1, 0, "map"),
        "1x1": Node("BN-ReLU-Conv 1×1 to 4k", 1, 1),
        "3x3": Node("BN-ReLU-Conv 3×3 to k", 1, 2),
        "concat": Node("concatenate", 1, 3, "join"),
        "out": Node("c + k channels", 1, 4, "map"),
    },
    (*_chain("x", "1x1", "3x3", "concat", "out"), Arrow("x", "concat", "around", "orange")),
    columns=(12, 110),
)
BLOCK = Diagram(
    "Dense block",
    {
        "x": Node("x₀", 0, 2, "map"),
        **{f"H{index}": Node(f"H{'₁₂₃₄'[index - 1]}", index, 2) for index in range(1, 5)},
        "out": Node("[x₀…x₄]", 5, 2, "map"),
    },
    tuple(
        Arrow(source, target, "" if step == 1 else "arc", "orange" if source == "x" else "teal")
        for first, source in enumerate(("x", "H1", "H2", "H3", "H4"))
        for step, target in enumerate(("H1", "H2", "H3", "H4", "out")[first:], start=1)
    ),
    columns=(16, 64, 112, 160, 208, 268),
    caption="Each layer H reads all outputs before it.",
)
TRANSITION = Diagram(
    "Transition",
    {
        "x": Node("x, c + Lk channels", 0, 0, "map"),
        "1x1": Node("BN-ReLU-Conv 1×1", 0, 1),
        "pool": Node("average pooling 2×2", 0, 2),
        "out": Node("⌊θ(c + Lk)⌋ channels", 0, 3, "map"),
    },
    _chain("x", "1x1", "pool", "out"),
    columns=(94,),
    caption="Half the height and width.",
)
CSP_BOTH = _csp(
    'fusion="both"',
    {
        "T": "T: Conv 1×1",
        "concat": "concatenate",
        "U": "U: Conv 1×1",
        "pool": "pooling 2×2",
        "out": "⌊θ(c + Lk)⌋",
    },
    "T and U; each is BN-ReLU-Conv.",
)
CSP_FIRST = _csp(
    'fusion="first"',
    {
        "concat": "concatenate",
        "U": "U: Conv 1×1",
        "pool": "pooling 2×2",
        "out": "⌊θ(c + Lk)⌋",
    },
    "The parts are joined before U.",
)
CSP_LAST = _csp(
    'fusion="last" (default)',
    {
        "T": "T: Conv 1×1",
        "concat": "concatenate",
        "pool": "pooling 2×2",
        "out": "⌊θ(c + Lk)⌋",
    },
    "The parts are joined after T.",
)
DARKNET = Diagram(
    "Darknet's residual block",
    {
        "x": Node("x, c channels", 1, 0, "map"),
        "1x1": Node("Conv 1×1-BN-ReLU to c/2", 1, 1),
        "3x3": Node("Conv 3×3-BN-ReLU to c", 1, 2),
        "add": Node("add", 1, 3, "join"),
        "out": Node("c channels", 1, 4, "map"),
    },
    (*_chain("x", "1x1", "3x3", "add", "out"), Arrow("x", "add", "around", "orange")),
    columns=(12, 110),
    caption="ReLU is leaky; nothing follows the sum.",
)
PELEE = Diagram(
    "PeleeNet's two-way layer",
    {
        "x": Node("x", 1, 0, "map"),
        "a1": Node("Conv 1×1", 0, 1),
        "a2": Node("Conv 3×3 to k/2", 0, 2),
        "b1": Node("Conv 1×1", 2, 1),
        "b2": Node("Conv 3×3 to k/2", 2, 2),
        "b3": Node("Conv 3×3 to k/2", 2, 3),
        "concat": Node("concatenate", 1, 4, "join"),
        "out": Node("c + k channels", 1, 5, "map"),
    },
    (
        Arrow("x", "a1", "across"),
        Arrow("x", "b1", "across"),
        Arrow("x", "concat", color="orange"),
        *_chain("a1", "a2"),
        *_chain("b1", "b2", "b3"),
        Arrow("a2", "concat", "down"),
        Arrow("b3", "concat", "down"),
        Arrow("concat", "out"),
    ),
    columns=(66, 150, 234),
    caption="Each convolution is followed by BN-ReLU.",
)
DUAL_PATH = Diagram(
    "Dual-path block",
    {
        "r": Node("r, residual", 0, 0, "map"),
        "d": Node("d, dense", 2, 0, "map"),
        "read": Node("concatenate", 1, 1, "join"),
        "a": Node("Conv 1×1 to R", 1, 2),
        "b": Node("Conv 3×3, G groups", 1, 3),
        "c": Node("Conv 1×1 to b + i", 1, 4),
        "split": Node("split", 1, 5, "join"),
        "add": Node("add b", 0, 5, "join"),
        "append": Node("append i", 2, 5, "join"),
        "r2": Node("r, b channels", 0, 6, "map"),
        "d2": Node("d, + i channels", 2, 6, "map"),
    },
    (
        *_chain("r", "add", "r2"),
        *_chain("d", "append", "d2"),
        Arrow("r", "read", "tee"),
        Arrow("d", "read", "tee"),
        *_chain("read", "a", "b", "c", "split"),
        Arrow("split", "add", color="orange"),
        Arrow("split", "append", color="teal"),
    ),
    columns=(50, 158, 266),
    caption="Each convolution follows BN-ReLU.",
)
MIXER = Diagram(
    "RDNet's feature mixer",
    {
        "x": Node("x, c channels", 1, 0, "map"),
        "conv": Node("depthwise Conv 7×7, LN", 1, 1),
        "wide": Node("Conv 1×1 to 4c, GELU", 1, 2),
        "new": Node("Conv 1×1 to k", 1, 3),
        "scale": Node("eSE, layer scale", 1, 4),
        "concat": Node("concatenate", 1, 5, "join"),
        "out": Node("c + k channels", 1, 6, "map"),
    },
    (
        *_chain("x", "conv", "wide", "new", "scale", "concat", "out"),
        Arrow("x", "concat", "around", "orange"),
    ),
    columns=(12, 110),
    caption="eSE from the third stage on.",
)

# The figure of README.md and the home page: how the three ideas use previous feature maps.
OVERVIEW = {
    "overview-densenet": replace(BLOCK, title="DenseNet"),
    "overview-cspnet": replace(CSP_LAST, title="CSPNet", caption="A part of x₀ skips the layers."),
    "overview-dpn": replace(DUAL_PATH, title="DPN", caption="One path adds, one concatenates."),
}
BLOCKS = {
    "dense-layer": LAYER,
    "dense-block": BLOCK,
    "transition": TRANSITION,
    "csp-both": CSP_BOTH,
    "csp-first": CSP_FIRST,
    "csp-last": CSP_LAST,
    "darknet": DARKNET,
    "peleenet": PELEE,
    "dual-path": DUAL_PATH,
    "rdnet": MIXER,
}
