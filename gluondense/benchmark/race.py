"""Candidates that take turns, each in a process of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

WORKER = Path(__file__).with_name("worker.py")
TURN_SECONDS = 0.5


@dataclasses.dataclass(frozen=True)
class Lap:
    """What one candidate did.

    Parameters
    ----------
    name
        Of the candidate.
    batch
        Images at a time.
    times
        Seconds of each prediction.
    first_s
        Seconds from the start of its process to the first prediction.
    rss_mb
        Most memory that its process held until then, in MB.
    """

    name: str
    batch: int
    times: tuple[float, ...]
    first_s: float
    rss_mb: float

    @property
    def median_ms(self) -> float:
        """Median of a prediction in ms for each image."""
        return 1e3 * statistics.median(self.times) / self.batch

    @property
    def spread_ms(self) -> tuple[float, float]:
        """First and third quartile in ms for each image."""
        low, _, high = statistics.quantiles(self.times, n=4)
        return 1e3 * low / self.batch, 1e3 * high / self.batch


class Worker:
    """A candidate's process."""

    def __init__(self, folder: Path, name: str, threads: int, shape: Sequence[int]) -> None:
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            # Who waits for its turn must not keep a core busy.
            "GOMP_SPINCOUNT": "10000",
            "GLUONDENSE_START": str(time.clock_gettime(time.CLOCK_MONOTONIC)),
        }
        command = [sys.executable, str(WORKER), str(folder), name, str(threads)]
        self.name = name
        self.process = subprocess.Popen(
            [*command, ",".join(map(str, shape))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def first(self) -> dict[str, Any]:
        """Wait for the first prediction, and return what it cost."""
        self.start = self._answer()
        return self.start

    def predict(self, count: int) -> list[float]:
        """Return the seconds of each of so many predictions."""
        assert self.process.stdin
        print(count, file=self.process.stdin, flush=True)
        return self._answer()["times"]

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout
        assert self.process.stderr
        line = self.process.stdout.readline()
        if not line:
            last = self.process.stderr.read().strip().splitlines()[-1:] or ["no message"]
            raise RuntimeError(f"{self.name} stopped: {last[0]}")
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def race(
    folder: Path,
    names: Sequence[str],
    batch: int,
    size: int,
    channels: int = 3,
    threads: int = 2,
    rounds: int = 15,
) -> list[Lap]:
    """Let candidates predict in turns, after a warm-up.

    Parameters
    ----------
    folder
        What ``prepare`` has filled.
    names
        Keys of ``CANDIDATES``.
    batch, size, channels
        Of the images (batch, channels, size, size).
    threads
        Of each candidate.
    rounds
        How often each has its turn; a turn is as many predictions as take about half a second.

    Raises
    ------
    RuntimeError
        If a candidate stops, or its logits are not those of the first one.
    """
    shape = (batch, channels, size, size)
    workers: list[Worker] = []
    with contextlib.ExitStack() as stack:
        for name in names:
            workers.append(Worker(folder, name, threads, shape))
            stack.callback(workers[-1].close)
            workers[-1].first()
            _compare(workers[0], workers[-1])
        counts = [max(1, round(TURN_SECONDS / min(worker.predict(3)))) for worker in workers]
        times: list[list[float]] = [[] for _ in workers]
        for _ in range(rounds):
            for worker, count, found in zip(workers, counts, times):
                worker.predict(1)  # the others had the caches
                found += worker.predict(count)
    return [
        Lap(worker.name, batch, tuple(found), worker.start["first_s"], worker.start["rss_mb"])
        for worker, found in zip(workers, times)
    ]


def _compare(first: Worker, other: Worker) -> None:
    wanted, got = (np.array(worker.start["logits"]) for worker in (first, other))
    if np.abs(got - wanted).max() > 1e-3 * np.abs(wanted).max():
        raise RuntimeError(f"{other.name} gives other logits than {first.name}")
