# SPDX-License-Identifier: Apache-2.0
"""Throughput of several processes at once, each with one thread and pinned to one CPU."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from gluondense.errors import check

from .interleaved import ROUND_SECONDS, Case
from .process import Worker, log


def throughput(
    case: Case, counts: Sequence[int], rounds: int = 5
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Measure groups of processes, the backends in alternating rounds.

    Parameters
    ----------
    case, counts
        Network, backends and images; numbers of processes.
    rounds
        Rounds of each backend with each number of processes.

    Returns
    -------
    list of dict, dict
        Rows with ``name``, ``workers``, ``images_per_s`` and its ``quartiles``; and the reasons
        why other backends are missing, by name.

    Raises
    ------
    ValueError
        If there are fewer CPUs than processes.
    """
    usable = sorted(os.sched_getaffinity(0))
    most = max(counts)
    check("workers", most, f"at most {len(usable)}, the usable CPUs", most <= len(usable))
    reasons: dict[str, str] = {}
    speeds: dict[tuple[str, int], list[float]] = {}
    with contextlib.ExitStack() as stack:
        groups: dict[str, list[Worker]] = {}
        predictions: dict[str, int] = {}
        for name in case.names:
            log(f"starting {most} processes of {name}")
            groups[name] = []
            try:
                for cpu in usable[:most]:
                    groups[name].append(Worker(case.folder, name, 1, (*case.shape, cpu)))
                    stack.callback(groups[name][-1].close)
                    groups[name][-1].first()
                seconds = min(groups[name][0].predict(3))
                predictions[name] = max(2, round(2 * ROUND_SECONDS / seconds))
            except RuntimeError as error:
                reasons[name] = str(error)
        for _, name, count in itertools.product(range(rounds), predictions, counts):
            try:
                if name not in reasons:
                    speed = _speed(groups[name][:count], predictions[name])
                    speeds.setdefault((name, count), []).append(speed * case.shape[0])
            except RuntimeError as error:
                reasons[name] = str(error)
    rows = [
        {
            "name": name,
            "workers": count,
            "images_per_s": float(np.median(found)),
            "quartiles": np.percentile(found, (25, 75)).tolist(),
        }
        for (name, count), found in speeds.items()
        if name not in reasons
    ]
    return rows, reasons


def _speed(workers: list[Worker], count: int) -> float:
    """Return predictions per second of all workers, from the first start to the last end."""
    for worker in workers:
        worker.predict(1)
    begin = time.perf_counter()
    for worker in workers:
        worker.ask(count)
    for worker in workers:
        worker.answer()
    return len(workers) * count / (time.perf_counter() - begin)
