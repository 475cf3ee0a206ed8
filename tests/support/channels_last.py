"""NHWC graphs on a CPU, whose convolutions MXNet has in NCHW only."""

from __future__ import annotations

from gluondense.graph.ir import Graph, Node


def compute_on_cpu(graph: Graph) -> int:
    """Compute NHWC convolutions, in NCHW between transposes; return their number."""
    count = 0
    for node in list(graph.operators()):
        if node.is_like("Convolution", layout="NHWC") and "layout" in node.attrs:
            data, weight, *bias = (
                Node("transpose", f"{node.name}_in{index}", {"axes": "(0, 3, 1, 2)"}, [entry])
                if index < 2
                else entry[0]
                for index, entry in enumerate(node.inputs)
            )
            inputs = [(data, 0), (weight, 0), *((each, 0) for each in bias)]
            conv = Node("Convolution", node.name, {**node.attrs, "layout": "NCHW"}, inputs)
            back = Node("transpose", f"{node.name}_out", {"axes": "(0, 2, 3, 1)"}, [(conv, 0)])
            graph.replace(node, back)
            count += 1
    return count
