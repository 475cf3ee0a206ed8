"""The training benchmark: time and memory of the steps of interleaved backends."""

from __future__ import annotations

import contextlib
import datetime
import importlib.util
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gluondense.analysis.costs import summary

from .interleaved import Log
from .machine import machine, versions
from .process import Worker
from .workers.training_backends import BACKENDS


def measure(
    models: Sequence[str],
    batches: Sequence[int],
    size: int = 224,
    threads: int = 2,
    rounds: int = 5,
    only: Sequence[str] = (),
    log: Log = lambda line: None,
) -> Iterator[dict[str, Any]]:
    """Measure, and yield the JSON file's content after each network and batch size.

    Parameters
    ----------
    models, batches, size
        Registry names, images per step, and height and width of the images.
    threads
        Threads of each backend.
    rounds
        Timed steps of each backend, interleaved.
    only
        Keys of ``BACKENDS``; default: all whose modules are installed.
    log
        Receives progress messages.

    Raises
    ------
    ValueError
        If a backend is unknown.
    RuntimeError
        If no backend can run.
    """
    for name in only:
        if name not in BACKENDS:
            raise ValueError(f"there is no backend {name!r}: known are {', '.join(BACKENDS)}.")
    names = [name for name in BACKENDS if not only or name in only]
    content: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "versions": versions(),
        "machine": machine(),
        "threads": threads,
        "rows": [],
        "missing": [],
    }
    for model in models:
        for batch in batches:
            content["rows"] += _measure_case(
                content, names, (model, batch, size), threads, rounds, log
            )
            yield content


def _measure_case(
    content: dict[str, Any],
    names: Sequence[str],
    case: tuple[str, int, int],
    threads: int,
    rounds: int,
    log: Log,
) -> list[dict[str, Any]]:
    model, batch, _ = case
    found: dict[str, dict[str, Any]] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        workers: dict[str, Worker] = {}
        for name in names:
            try:
                _check_installed(BACKENDS[name].needs)
                log(f"{model}, batch {batch}: starting {name}")
                worker = Worker.training(folder, name, threads, case)
                stack.callback(worker.close)
                found[name] = {**worker.first(), "times": []}
                workers[name] = worker
            except RuntimeError as error:
                content["missing"].append({"name": name, "model": model, "reason": str(error)})
                log(f"no {name}: {error}")
        for _ in range(rounds):
            for name, worker in workers.items():
                found[name]["times"] += worker.predict(1)
    if not workers:
        raise RuntimeError(f"no backend can run {model}: {content['missing'][0]['reason']}")
    return _rows(found, case)


def _check_installed(needs: Sequence[str]) -> None:
    for module in needs:
        if importlib.util.find_spec(module) is None:
            raise RuntimeError(f"{module} is not installed")


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
