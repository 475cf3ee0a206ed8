# SPDX-License-Identifier: Apache-2.0
"""The charts of the docs, each from the results of a benchmark in docs/results/benchmarks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Callable, Optional

from .bars import Bar, Chart, Group
from .benchmarks import CHARTS as BENCHMARKS

RESULTS = Path(__file__).parents[3] / "docs" / "results" / "benchmarks"


@dataclass(frozen=True)
class Case:
    """A network at a batch size, and the files whose results are shown.

    A backend's result is from the first file that has it. ``title`` is the network's name by
    default.
    """

    model: str
    files: tuple[str, ...]
    batch: int = 1
    size: int = 224
    title: str = ""


# The label of a bar, and the backends of the benchmark of which the fastest is shown.
FLOAT32 = {
    "native": ("native",),
    "OpenVINO": ("openvino",),
    "ONNX Runtime": ("onnxruntime",),
    "PyTorch": ("torch", "torch.compile"),
    "MXNet": ("portable",),
}


def relative_times(
    title: str,
    cases: tuple[Case, ...],
    backends: Mapping[str, tuple[str, ...]] = FLOAT32,
    note: tuple[str, ...] = (),
) -> Chart:
    """Return the chart of the backends' times relative to OpenVINO's in float32, in the same run.

    A backend that was not measured has no bar.
    """
    groups = []
    for case in cases:
        found = {label: _fastest(case, names) for label, names in backends.items()}
        bars = tuple(
            Bar(label, row["to_reference"]["ratio"], _shown(row), label == "native")
            for label, row in found.items()
            if row
        )
        groups.append(Group(case.title or case.model, bars))
    return Chart(title, note, tuple(groups))


def rows(file: str) -> list[dict[str, Any]]:
    """Return the rows of a file of results."""
    found: list[dict[str, Any]] = json.loads((RESULTS / file).read_text(encoding="utf-8"))["rows"]
    return found


def _fastest(case: Case, names: tuple[str, ...]) -> Optional[dict[str, Any]]:
    key = (case.model, case.batch, case.size)
    for file in case.files:
        candidates = [
            row
            for row in rows(file)
            if (row["model"], row["batch"], row["size"]) == key and row["name"] in names
        ]
        if candidates:
            return min(candidates, key=lambda row: float(row["median_ms"]))
    return None


def _shown(row: Mapping[str, Any]) -> str:
    return f"{row['to_reference']['ratio']:.2f}"


# The name of a chart's file, and what makes the chart. A new chart is a row here.
CHARTS: dict[str, Callable[[], Chart]] = {
    "inference": partial(
        relative_times,
        "Time of one prediction relative to OpenVINO",
        (
            Case("densenet121", ("densenet121-runtime.json", "densenet121.json")),
            Case("csp_darknet53", ("csp_darknet53-peleenet.json",)),
            Case("rdnet_tiny", ("rdnet_tiny.json",)),
            Case("peleenet", ("csp_darknet53-peleenet.json",)),
        ),
        note=(
            "float32, one image of 224x224, 2 threads of an AMD EPYC (Zen 4); shorter is faster.",
        ),
    ),
    **BENCHMARKS,
}
