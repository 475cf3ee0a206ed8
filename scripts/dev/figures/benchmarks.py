# SPDX-License-Identifier: Apache-2.0
"""The charts of the docs, of the same results as the tables of docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Callable

from dev import results

from .bars import Bar, Chart, Group

SIZE = 224
MACHINE = "2 threads of an AMD EPYC (Zen 4); shorter is faster."
OURS = ("native", "runtime")
# Label of each bar, and its backend. Of several backends the fastest is shown.
FLOAT32 = {
    "native": "native",
    "OpenVINO": "openvino",
    "ONNX Runtime": "onnxruntime",
    "PyTorch": "torch torch.compile",
}
BFLOAT16 = {"native_bf16": "native_bf16", "OpenVINO": "openvino-bf16"}
INT8 = {
    "native_int8": "native_int8",
    "OpenVINO": "openvino-int8",
    "ONNX Runtime": "onnxruntime-int8",
}
START = {"runtime": "runtime", **FLOAT32}
STEP = {
    "native": "native",
    "MXNet": "plain",
    "PyTorch": "torch torch.compile",
    "native, bf16": "native-bf16",
    "PyTorch, bf16": "torch-bf16 torch.compile-bf16",
}
ACTIVATIONS = {
    "native, True": "native-balanced",
    "native": "native",
    "MXNet, True": "balanced",
    "MXNet": "plain",
    "PyTorch": "torch",
    "native, bf16": "native-bf16",
    "bf16, True": "native-bf16-balanced",
}
# The networks of README.md and the home page, and stock MXNet as another peer.
OVERVIEW = ("densenet121", "csp_darknet53", "rdnet_tiny", "peleenet")
WITH_MXNET = {**FLOAT32, "MXNet": "portable"}


def _times(title: str, precision: str, bars: dict[str, str], networks: Iterable[str] = ()) -> Chart:
    """Return the chart of times relative to OpenVINO's in the same precision."""
    rows = results.inference()
    own = next(iter(bars.values()))
    groups = []
    for network in networks or results.networks(rows):
        if (network, SIZE, 1, own) in rows:
            groups.append(_group(rows, (network, 1), bars, "to_openvino", "{:.2f}"))
    return Chart(title, (f"{precision}, one image of 224x224, {MACHINE}",), tuple(groups))


def _start() -> Chart:
    """Return the chart of the time from the start of a process to its first prediction."""
    rows = results.inference()
    groups = [
        _group(rows, (network, 1), START, "first_s", "{:.1f} s")
        for network in results.networks(rows)
        if (network, SIZE, 1, "runtime") in rows
    ]
    note = ("float32, one image of 224x224; with the import of MXNet or PyTorch.",)
    return Chart("From the start of a process to its first prediction", note, tuple(groups))


def _step() -> Chart:
    """Return the chart of the time of a training step."""
    rows = results.training()
    groups = [
        _group(rows, (network, 16), STEP, "ms", "{:.0f} ms")
        for network in results.networks(rows)
        if (network, SIZE, 16, "native") in rows
    ]
    note = (f"float32 and bfloat16, 16 images of 224x224, {MACHINE}",)
    return Chart("Time of a training step, per image", note, tuple(groups))


def _activations() -> Chart:
    """Return the chart of the memory of a training step."""
    rows = results.training()
    group = _group(rows, ("densenet121", 16), ACTIVATIONS, "maps", "{:.0f} MB")
    note = ("16 images of 224x224. True: memory_efficient=True.",)
    return Chart("Activations of a training step", note, (group,))


def _serving() -> Chart:
    """Return the chart of the requests per second of the servers."""
    bars = tuple(
        Bar(row["target"] if own else "ONNX Runtime", row["rate"], f"{row['rate']:.0f} /s", own)
        for row in results.content("serving")["rows"]
        for own in [row["server"] == "multi-model-server"]
    )
    note = ("8 clients, JPEGs, 2 cores for servers and clients; longer is better.",)
    return Chart("Requests per second", note, (Group("densenet121", bars),))


def _group(
    rows: dict[results.Case, results.Row],
    case: tuple[str, int],
    bars: dict[str, str],
    key: str,
    form: str,
) -> Group:
    """Return the bars of a network at a batch size; a backend that was not measured has none."""
    network, batch = case
    found = []
    for label, names in bars.items():
        candidates = [rows.get((network, SIZE, batch, name)) for name in names.split()]
        row = min(filter(None, candidates), key=lambda row: float(row[key]), default=None)
        if row:
            found.append(Bar(label, row[key], form.format(row[key]), _is_own(row["name"])))
    return Group(network, tuple(found))


def _is_own(name: str) -> bool:
    return name.startswith(OURS)


# The name of a chart's file, and what makes the chart.
CHARTS: dict[str, Callable[[], Chart]] = {
    "inference": partial(
        _times, "Time of one prediction, OpenVINO = 1", "float32", WITH_MXNET, OVERVIEW
    ),
    "float32": partial(_times, "Inference time in float32, OpenVINO = 1", "float32", FLOAT32),
    "bfloat16": partial(_times, "Inference time in bfloat16, OpenVINO = 1", "bfloat16", BFLOAT16),
    "int8": partial(_times, "Inference time in int8, OpenVINO = 1", "int8", INT8),
    "start": _start,
    "training": _step,
    "activations": _activations,
    "serving": _serving,
}
