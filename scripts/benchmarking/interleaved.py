# SPDX-License-Identifier: Apache-2.0
"""Interleaved measurements: backends in separate processes predict in alternating rounds."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gluondense.deploy.detector import box_agreement

from .process import Worker, log
from .workers.backends import find

ROUND_SECONDS = 0.5
# Limits of the error by precision: of logits, relative; of boxes, the share that only one of two
# detectors finds.
TOLERANCES = {"fp32": 1e-3, "bf16": 0.1, "int8": 0.3}
BOX_TOLERANCES = {"fp32": 0.03, "bf16": 0.3, "int8": 0.5}


@dataclasses.dataclass(frozen=True)
class Measurement:
    """The measurements of one backend.

    Parameters
    ----------
    name, batch
        Name of the backend, and images per prediction.
    rounds
        Seconds of each prediction, by round.
    startup
        Costs of the worker's start: seconds until the end of the first prediction ``first_s``, of
        which ``import_s`` and ``load_s``; memory in MB after it ``rss_mb``, and its peak
        ``peak_mb``.
    error
        Error of the output, see :func:`output_error`.
    """

    name: str
    batch: int
    rounds: Sequence[Sequence[float]]
    startup: dict[str, float]
    error: float

    @property
    def times(self) -> np.ndarray:
        """Seconds of each prediction."""
        return np.concatenate(self.rounds)

    @property
    def median_ms(self) -> float:
        """Median time per image in ms."""
        return 1e3 * float(np.median(self.times)) / self.batch

    @property
    def quartiles_ms(self) -> list[float]:
        """First and third quartile of the time per image in ms."""
        return (1e3 * np.percentile(self.times, (25, 75)) / self.batch).tolist()

    def ratio(self, other: Measurement | None) -> dict[str, Any] | None:
        """Return the other's name, and median and quartiles of the rounds' ratios of times."""
        if other is None:
            return None
        ratios = [np.median(a) / np.median(b) for a, b in zip(self.rounds, other.rounds)]
        low, median, high = np.percentile(ratios, (25, 50, 75)).tolist()
        return {"name": other.name, "ratio": median, "quartiles": [low, high]}


@dataclasses.dataclass(frozen=True)
class Case:
    """A network and its input.

    Parameters
    ----------
    model, folder, names
        The network's name, the folder that ``prepare`` has filled, and the backends to measure.
    shape
        Shape (N, C, H, W) of the images.
    expected
        Logits (classes,) of the first image, or its boxes (K, 6).
    """

    model: str
    folder: Path
    names: Sequence[str]
    shape: Sequence[int]
    expected: np.ndarray


@dataclasses.dataclass
class _Running:
    """A backend whose worker has predicted and waits for its rounds of ``count`` predictions."""

    worker: Worker
    error: float
    count: int
    rounds: list[list[float]] = dataclasses.field(default_factory=list)


Result = tuple[list[Measurement], dict[str, str]]


def measure_interleaved(cases: Sequence[Case], threads: int, rounds: int) -> list[Result]:
    """Measure the backends of one network or several in alternating rounds, after a warm-up.

    Parameters
    ----------
    cases
        The networks, with images of one batch and size.
    threads, rounds
        Threads and rounds of each backend.

    Returns
    -------
    list of tuple
        For each network its measurements, and the reasons why other backends have none, by name:
        the worker stopped, or its output differs.
    """
    groups: list[dict[str, _Running]] = [{} for _ in cases]
    reasons: list[dict[str, str]] = [{} for _ in cases]
    with contextlib.ExitStack() as stack:
        for case, group, failures in zip(cases, groups, reasons):
            for name in case.names:
                log(f"{case.model}: starting {name}")
                worker = Worker(case.folder, name, threads, case.shape)
                stack.callback(worker.close)
                try:
                    group[name] = _warm_up(worker, case.expected)
                except RuntimeError as error:
                    failures[name] = str(error)
                    log(f"{case.model}: no {name}: {error}")
                    worker.close()
        batch, _, *size = cases[0].shape
        count = sum(map(len, groups))
        log(f"batch {batch}, {'x'.join(map(str, size))}: {rounds} rounds of {count} backends")
        for _ in range(rounds):
            for group, failures in zip(groups, reasons):
                for name, backend in group.items():
                    try:
                        if name not in failures:
                            backend.worker.predict(1)  # refills the caches, which others have used
                            backend.rounds.append(backend.worker.predict(backend.count))
                    except RuntimeError as error:
                        failures[name] = str(error)
    return [
        ([_measurement(batch, b) for name, b in group.items() if name not in failures], failures)
        for group, failures in zip(groups, reasons)
    ]


def output_error(output: np.ndarray, expected: np.ndarray) -> float:
    """Return the relative error of logits, or the share of boxes that only one detector finds.

    Suppression is not continuous, so that rounding may exchange or drop boxes of small scores.
    """
    if expected.ndim == 1:
        return float(np.linalg.norm(output - expected) / np.linalg.norm(expected))
    columns = (slice(0, 1), slice(1, 2), slice(2, 6))
    found, wanted = ([rows[None, :, each] for each in columns] for rows in (output, expected))
    agreement = box_agreement(found, wanted, threshold=0)
    return 0.0 if agreement is None else 1 - agreement


def _warm_up(worker: Worker, expected: np.ndarray) -> _Running:
    """Wait for a worker's first predictions; raise a RuntimeError if its output differs."""
    error = output_error(np.array(worker.first().pop("output")), expected)
    tolerances, what = (TOLERANCES, "logits") if expected.ndim == 1 else (BOX_TOLERANCES, "boxes")
    limit = tolerances[find(worker.name).precision]
    if not error <= limit:
        raise RuntimeError(
            f"{worker.name} gives other {what}: off by {error:.3g}, allowed is {limit:g}"
        )
    return _Running(worker, error, max(1, round(ROUND_SECONDS / min(worker.predict(3)))))


def _measurement(batch: int, backend: _Running) -> Measurement:
    worker = backend.worker
    return Measurement(worker.name, batch, backend.rounds, worker.startup, backend.error)
