"""Interleaved measurements: backends in processes of their own predict in alternating rounds."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from .process import Worker
from .workers.backends import find

ROUND_SECONDS = 0.5
# Limits of the relative error of logits, by precision.
TOLERANCES = {"fp32": 1e-3, "bf16": 0.1, "int8": 0.3}

Log = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Measurement:
    """The measurements of one backend.

    Parameters
    ----------
    name
        Name of the backend.
    batch
        Images per prediction.
    rounds
        Seconds of each prediction, by round.
    startup
        Costs of the worker's start: seconds until the end of the first prediction ``first_s``, of
        which ``import_s`` and ``load_s``; memory in MB after it ``rss_mb``, and its peak
        ``peak_mb``.
    error
        Relative error of the logits.
    """

    name: str
    batch: int
    rounds: tuple[tuple[float, ...], ...]
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
    def quartiles_ms(self) -> tuple[float, float]:
        """First and third quartile of the time per image in ms."""
        low, high = 1e3 * np.percentile(self.times, (25, 75)) / self.batch
        return float(low), float(high)

    def ratio(self, other: Measurement) -> tuple[float, float, float]:
        """Return the median, first and third quartile of the rounds' ratios of times to another."""
        ratios = [np.median(a) / np.median(b) for a, b in zip(self.rounds, other.rounds)]
        low, median, high = np.percentile(ratios, (25, 50, 75))
        return float(median), float(low), float(high)


@dataclasses.dataclass(frozen=True)
class ReadyBackend:
    """A backend whose worker has predicted and waits for its rounds.

    Parameters
    ----------
    worker
        Its process.
    batch
        Images per prediction.
    count
        Predictions per round.
    error
        Relative error of the logits.
    """

    worker: Worker
    batch: int
    count: int
    error: float


def measure_interleaved(
    folder: Path,
    names: Sequence[str],
    shape: Sequence[int],
    threads: int = 2,
    rounds: int = 15,
    expected: np.ndarray | None = None,
    log: Log = lambda line: None,
) -> tuple[list[Measurement], dict[str, str]]:
    """Measure backends in alternating rounds, after a warm-up.

    Parameters
    ----------
    folder
        Folder that ``prepare`` has filled.
    names
        Names of the backends.
    shape
        Shape (N, C, H, W) of the images.
    threads
        Threads of each backend.
    rounds
        Rounds of each backend; a round lasts about half a second.
    expected
        Logits of the first image; default: those of the first backend.
    log
        Receives progress messages.

    Returns
    -------
    list of Measurement, dict
        The measurements, and the reasons why other backends have none, by name: the worker
        stopped, or its logits differ.
    """
    with contextlib.ExitStack() as stack:
        ready, reasons = start(stack, folder, names, shape, threads, expected, log)
        log(f"{rounds} rounds of {len(ready)} backends")
        measurements, stopped = split(ready, run_rounds(ready, rounds))
    return measurements, {**reasons, **stopped}


def start(
    stack: contextlib.ExitStack,
    folder: Path,
    names: Sequence[str],
    shape: Sequence[int],
    threads: int,
    expected: np.ndarray | None,
    log: Log,
) -> tuple[list[ReadyBackend], dict[str, str]]:
    """Start and warm up backends, which ``stack`` closes; see :func:`measure_interleaved`.

    Returns
    -------
    list of ReadyBackend, dict
        The backends, and the reasons why others are missing, by name.
    """
    ready, reasons = [], {}
    for name in names:
        log(f"starting {name}")
        worker = Worker(folder, name, threads, shape)
        stack.callback(worker.close)
        try:
            logits = np.array(worker.first()["logits"])
            expected = logits if expected is None else expected
            error = check_logits(name, logits, expected)
            count = max(1, round(ROUND_SECONDS / min(worker.predict(3))))
        except RuntimeError as failure:
            reasons[name] = str(failure)
            log(f"no {name}: {failure}")
            worker.close()
        else:
            ready.append(ReadyBackend(worker, shape[0], count, error))
    return ready, reasons


def run_rounds(ready: Sequence[ReadyBackend], rounds: int) -> list[Measurement | str]:
    """Measure backends, of one network or several, in alternating rounds.

    Returns
    -------
    list
        The measurement of each backend, or the reason why it stopped.
    """
    times: list[list[tuple[float, ...]]] = [[] for _ in ready]
    stopped: dict[int, str] = {}
    for _ in range(rounds):
        for n, backend in enumerate(ready):
            if n in stopped:
                continue
            try:
                backend.worker.predict(1)  # refills the caches, which other backends have used
                times[n].append(tuple(backend.worker.predict(backend.count)))
            except RuntimeError as error:
                stopped[n] = str(error)
    return [
        stopped.get(n)
        or Measurement(b.worker.name, b.batch, tuple(times[n]), _startup(b.worker), b.error)
        for n, b in enumerate(ready)
    ]


def split(
    ready: Sequence[ReadyBackend], results: Sequence[Measurement | str]
) -> tuple[list[Measurement], dict[str, str]]:
    """Return the measurements, and the reasons why other backends have none, by name."""
    measurements = [result for result in results if isinstance(result, Measurement)]
    pairs = zip(ready, results)
    return measurements, {b.worker.name: why for b, why in pairs if isinstance(why, str)}


def _startup(worker: Worker) -> dict[str, float]:
    return {key: value for key, value in worker.startup.items() if key != "logits"}


def check_logits(name: str, logits: np.ndarray, expected: np.ndarray) -> float:
    """Return the relative error of logits.

    Raises
    ------
    RuntimeError
        If it exceeds the tolerance of the backend's precision.
    """
    error = float(np.linalg.norm(logits - expected) / np.linalg.norm(expected))
    limit = TOLERANCES[find(name).precision]
    if not error <= limit:
        raise RuntimeError(f"{name} gives other logits: off by {error:.3g}, allowed is {limit:g}")
    return error
