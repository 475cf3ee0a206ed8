"""float16 on the CPU: its convolutions and products compute in float32, between casts.

MXNet has all other operators in float16 on the CPU, so types, rounding, the range of the numbers,
loss scale and recomputation are those of a GPU.
"""

from __future__ import annotations

from gluondense.graph.ir import Graph, Node
from gluondense.graph.mixed_precision import HALF_PRECISION, use_mixed_precision
from gluondense.training import precision, run, step
from support.channels_last import compute_on_cpu


def use_mixed_precision_of_cpus(graph: Graph, dtype: str) -> None:
    compute_on_cpu(graph)  # convolutions in NHWC
    use_mixed_precision(graph, dtype)
    for node in list(graph.operators()) if dtype == "float16" else ():
        if node.op in HALF_PRECISION:
            casts = [
                Node("amp_cast", f"{node.name}_operand{index}", {"dtype": "float32"}, [entry])
                for index, entry in enumerate(node.inputs)
            ]
            node.inputs = [(cast, 0) for cast in casts]
            rounded = Node("amp_cast", f"{node.name}_rounded", {"dtype": dtype}, [(node, 0)])
            graph.replace(node, rounded)


def allow_float16(monkeypatch) -> None:
    """Let steps and runs compute in float16 on the CPU."""
    monkeypatch.setattr(precision, "use_mixed_precision", use_mixed_precision_of_cpus)
    for module in (step, run):
        monkeypatch.setattr(module, "check_dtype", lambda dtype, devices: None)
