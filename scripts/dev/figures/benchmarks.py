# SPDX-License-Identifier: Apache-2.0
"""The charts of docs/benchmarks.md, of the same results as its tables."""

from __future__ import annotations

from functools import partial
from typing import Callable

from dev import results

from .bars import Bar, Chart, Group

SIZE = 224
MACHINE = "2 threads of an AMD EPYC (Zen 4); shorter is faster."
# Label and backend of each bar.
FLOAT32 = {
    "native": "native",
    "OpenVINO": "openvino",
    "ONNX Runtime": "onnxruntime",
    "PyTorch": "torch",
}
BFLOAT16 = {"native_bf16": "native_bf16", "OpenVINO": "openvino-bf16"}
INT8 = {
    "native_int8": "native_int8",
    "OpenVINO": "openvino-int8",
    "ONNX Runtime": "onnxruntime-int8",
}
START = {"runtime": "runtime", "native": "native", **dict(list(FLOAT32.items())[1:])}
STEP = {
    "native": "native",
    "MXNet": "plain",
    "PyTorch": "torch",
}
ACTIVATIONS = {
    "native, True": "native-balanced",
    "native": "native",
    "MXNet, True": "balanced",
    "MXNet": "plain",
    "PyTorch": "torch",
}
OURS = ("native", "runtime")


def _times(title: str, precision: str, bars: dict[str, str]) -> Chart:
    """Return the chart of times relative to OpenVINO's in the same precision."""
    rows = results.inference()
    own = next(iter(bars.values()))
    groups = []
    for network in results.networks(rows):
        if (network, SIZE, 1, own) in rows:
            found = {label: rows.get((network, SIZE, 1, name)) for label, name in bars.items()}
            groups.append(_group(network, found, "to_openvino", "{:.2f}"))
    return Chart(title, (f"{precision}, one image of 224x224, {MACHINE}",), tuple(groups))


def _start() -> Chart:
    """Return the chart of the time from the start of a process to its first prediction."""
    rows = results.inference()
    groups = [
        _group(
            network,
            {label: rows.get((network, SIZE, 1, name)) for label, name in START.items()},
            "first_s",
            "{:.1f} s",
        )
        for network in results.networks(rows)
        if (network, SIZE, 1, "runtime") in rows
    ]
    note = ("float32, one image of 224x224; with the import of MXNet or PyTorch.",)
    return Chart("From the start of a process to its first prediction", note, tuple(groups))


def _step() -> Chart:
    """Return the chart of the time of a training step."""
    rows = results.training()
    groups = [
        _group(
            network,
            {label: rows.get((network, SIZE, 16, name)) for label, name in STEP.items()},
            "ms",
            "{:.0f} ms",
        )
        for network in results.networks(rows)
    ]
    note = (f"float32, 16 images of 224x224, {MACHINE}",)
    return Chart("Time of a training step, per image", note, tuple(groups))


def _activations() -> Chart:
    """Return the chart of the memory of a training step."""
    rows = results.training()
    found = {label: rows["densenet121", SIZE, 16, name] for label, name in ACTIVATIONS.items()}
    note = ("float32, 16 images of 224x224. True: memory_efficient=True.",)
    return Chart(
        "Activations of a training step", note, (_group("densenet121", found, "maps", "{:.0f} MB"),)
    )


def _serving() -> Chart:
    """Return the chart of the requests per second of the servers."""
    bars = tuple(
        Bar(row["target"] if own else "ONNX Runtime", row["rate"], f"{row['rate']:.0f} /s", own)
        for row in results.content("serving")["rows"]
        for own in [row["server"] == "multi-model-server"]
    )
    note = ("8 clients, JPEGs, 2 cores for servers and clients; longer is better.",)
    return Chart("Requests per second", note, (Group("densenet121", bars),))


def _group(title: str, rows: dict[str, results.Row | None], key: str, form: str) -> Group:
    return Group(
        title,
        tuple(
            Bar(label, row[key], form.format(row[key]), _is_own(row["name"]))
            for label, row in rows.items()
            if row
        ),
    )


def _is_own(name: str) -> bool:
    return name.startswith(OURS)


CHARTS: dict[str, Callable[[], Chart]] = {
    "float32": partial(_times, "Inference in float32, to OpenVINO", "float32", FLOAT32),
    "bfloat16": partial(_times, "Inference in bfloat16, to OpenVINO", "bfloat16", BFLOAT16),
    "int8": partial(_times, "Inference in int8, to OpenVINO", "int8", INT8),
    "start": _start,
    "training": _step,
    "activations": _activations,
    "serving": _serving,
}
