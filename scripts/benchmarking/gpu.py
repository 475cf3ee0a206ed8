# SPDX-License-Identifier: Apache-2.0
"""The GPU benchmark: inference and training steps of interleaved backends on one GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gluondense.environment.cuda import find_gpus
from gluondense.environment.gpu import gpu_problem
from gluondense.errors import check_known

from .machine import header
from .process import WORKER
from .turns import measure_in_turns
from .workers.gpu_backends import BACKENDS

PROGRAM = WORKER.with_name("gpu.py")
COLUMNS = ("kind", "model", "batch", "size", "name", "ms", "images/s", "ratio", "MB")
ROUND_SECONDS = 0.5
BASE = "mxnet"  # whose time the ratios are to


def measure(
    models: Sequence[str],
    batches: Sequence[int],
    size: int = 224,
    threads: int = 2,
    rounds: int = 10,
    only: Sequence[str] = (),
    on_cpu: bool = False,
) -> Iterator[dict[str, Any]]:
    """Measure, and yield the JSON file's content after each network and batch size.

    In a round each backend makes as many calls as take half a second, waits for the device, and
    reports the time of a call: the calls overlap with the host's work as in a real run.

    Parameters
    ----------
    models, batches, size
        Registry names, images per call, and height and width of the images.
    threads, rounds
        Threads and interleaved rounds of each backend.
    only
        Keys of ``BACKENDS``; default: all whose modules are installed.
    on_cpu
        Measure on the CPU, to try the benchmark.

    Raises
    ------
    ValueError
        If MXNet cannot use the GPU, or a backend is unknown.
    RuntimeError
        If no backend can run.
    """
    names = dict.fromkeys(name for table in BACKENDS.values() for name in table)
    for name in only:
        check_known("backend", name, names)
    problem = None if on_cpu else gpu_problem()
    if problem:
        raise ValueError(f"no GPU to measure on: {problem}.")
    content = {**header(threads), "gpus": [] if on_cpu else [gpu._asdict() for gpu in find_gpus()]}
    for model in models:
        for batch in batches:
            for kind, table in BACKENDS.items():
                needs = {n: row.needs for n, row in table.items() if not only or n in only}
                case = (kind, model, batch, size, "cpu" if on_cpu else "gpu")
                found, missing = measure_in_turns(
                    needs, PROGRAM, case, threads, rounds, ROUND_SECONDS
                )
                content["missing"] += [{**row, "kind": kind, "model": model} for row in missing]
                content["rows"] += _rows(found, case)
            if not content["rows"]:
                raise RuntimeError(f"no backend can run {model}: {content['missing'][0]['reason']}")
            yield content


def _rows(found: dict[str, dict[str, Any]], case: tuple[Any, ...]) -> list[dict[str, Any]]:
    kind, model, batch, size, _ = case
    base = found.get(BASE)
    rows = []
    for name, row in found.items():
        low, median, high = np.percentile(row["times"], (25, 50, 75))
        ratio = float(np.median(np.array(row["times"]) / base["times"])) if base else None
        rows.append(
            {
                "kind": kind,
                "model": model,
                "batch": batch,
                "size": size,
                "name": name,
                "ours": BACKENDS[kind][name].ours,
                "ms": 1e3 * float(median),
                "quartiles_ms": [1e3 * float(low), 1e3 * float(high)],
                "images/s": batch / float(median),
                "ratio": ratio,
                "MB": row["used_mb"],
            }
        )
    return rows


def text(rows: Sequence[dict[str, Any]]) -> str:
    """Return a Markdown table; ``ms`` is of a call, ``ratio`` to MXNet in float32."""
    lines = [" | ".join(COLUMNS), "|".join("---" for _ in COLUMNS)]
    for row in rows:
        cells = [row[key] for key in COLUMNS[:5]]
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}"
        cells += [f"{row['ms']:.2f}", f"{row['images/s']:.0f}", ratio, f"{row['MB']:.0f}"]
        lines.append(" | ".join(map(str, cells)))
    return "\n".join(f"| {line} |" for line in lines) + "\n"
