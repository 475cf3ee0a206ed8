# SPDX-License-Identifier: Apache-2.0
"""Roofline: lower bounds of a network's time from the CPU's peak throughput and bandwidth."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from gluondense.analysis.costs import summary
from gluondense.graph.inference_passes import PASSES
from gluondense.graph.ir import Graph
from gluondense.graph.split_detector import split_detector
from gluondense.graph.trace import trace

from .networks import in_channels
from .process import environment, log

PRECISIONS = {"fp32": 4, "int8": 1}  # bytes of an element
WORKER = Path(__file__).parent / "workers" / "peaks.py"


def peaks(threads: int) -> dict[str, Any]:
    """Measure this CPU in a separate process.

    Returns
    -------
    dict
        For ``fp32`` and ``int8`` the highest throughput of matrix products in billions of
        multiply-adds per second, by library, the fastest first; ``copy`` in GB/s, the sum of bytes
        read and written.

    Raises
    ------
    RuntimeError
        If the process fails.
    """
    log("measuring the peak of this CPU")
    command = [sys.executable, str(WORKER), str(threads)]
    done = subprocess.run(command, env=environment(threads), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the peaks can't be measured: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def costs(net: Any, size: int) -> dict[str, float]:
    """Return the costs of one image after the inference passes, which remove operators.

    Returns
    -------
    dict
        ``macs``; the ``elements`` that convolutions read and write; the number of ``weights``.
    """
    values = {name: value.data().asnumpy() for name, value in net.collect_params().items()}
    symbol = trace(net)
    detector = split_detector(symbol)  # the decoding of boxes has no multiply-adds
    graph = Graph(detector.network if detector else symbol, values)
    for change in PASSES.values():
        change(graph)
    symbol, _ = graph.to_symbol()
    found = summary(symbol, (1, in_channels(net), size, size))
    return {"macs": found.macs, "elements": found.cio, "weights": found.params}


def roofline_ms(
    cost: dict[str, float], peak: dict[str, Any], precision: str, batch: int = 1
) -> tuple[float, float]:
    """Return lower bounds in ms for an image's multiply-adds and for its memory traffic.

    Parameters
    ----------
    cost, peak
        Results of :func:`costs` and :func:`peaks`.
    precision
        ``"fp32"`` or ``"int8"``.
    batch
        Images per prediction, which share the weights.
    """
    elements = cost["elements"] + cost["weights"] / batch
    fastest = max(peak[precision].values())
    moved = PRECISIONS[precision] * elements
    return cost["macs"] / fastest / 1e6, moved / peak["copy"] / 1e6
