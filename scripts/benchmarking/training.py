# SPDX-License-Identifier: Apache-2.0
"""The training benchmark: time and memory of the steps of interleaved backends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gluondense.analysis.costs import summary
from gluondense.errors import check_known

from .machine import header
from .process import TRAINING_WORKER
from .turns import measure_in_turns
from .workers.training_backends import BACKENDS


def measure(
    models: Sequence[str],
    batches: Sequence[int],
    size: int = 224,
    threads: int = 2,
    rounds: int = 5,
    only: Sequence[str] = (),
) -> Iterator[dict[str, Any]]:
    """Measure, and yield the JSON file's content after each network and batch size.

    Parameters
    ----------
    models, batches, size
        Registry names, images per step, and height and width of the images.
    threads, rounds
        Threads, and timed and interleaved steps, of each backend.
    only
        Keys of ``BACKENDS``; default: all whose modules are installed.

    Raises
    ------
    ValueError
        If a backend is unknown.
    RuntimeError
        If no backend can run.
    """
    for name in only:
        check_known("backend", name, BACKENDS)
    needs = {name: row.needs for name, row in BACKENDS.items() if not only or name in only}
    content = header(threads)
    for model in models:
        for batch in batches:
            case = (model, batch, size)
            found, missing = measure_in_turns(needs, TRAINING_WORKER, case, threads, rounds)
            content["missing"] += [{**row, "model": model} for row in missing]
            if not found:
                raise RuntimeError(f"no backend can run {model}: {missing[0]['reason']}")
            content["rows"] += _rows(found, case)
            yield content


def _rows(found: dict[str, dict[str, Any]], case: tuple[str, int, int]) -> list[dict[str, Any]]:
    model, batch, size = case
    # The first steps allocate gradients and momenta; the parameters existed before.
    states = 2 * 4 * summary(model, input_shape=(1, 3, size, size)).params / 2**20
    maps = {name: row["peak_mb"] - row["before_mb"] - states for name, row in found.items()}
    base = "plain" if "plain" in found else next(iter(found))
    rows = []
    for name, row in found.items():
        ratios = np.array(row["times"]) / np.array(found[base]["times"])
        low, median, high = np.percentile(row["times"], (25, 50, 75)) * 1e3 / batch
        rows.append(
            {
                "model": model,
                "batch": batch,
                "size": size,
                "name": name,
                "ours": BACKENDS[name].ours,
                "base": base,
                "ms": float(median),
                "quartiles_ms": [float(low), float(high)],
                "ratio": float(np.median(ratios)),
                "peak": row["peak_mb"],
                "maps": maps[name],
                "share": maps[name] / maps[base],
                "planned": row["planned_mb"],
            }
        )
    return rows
