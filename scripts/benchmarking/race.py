"""Candidates that take turns, each in a process of its own."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .candidates import find
from .process import Worker

TURN_SECONDS = 0.5
# How far logits may be off, as the length of the difference over their own.
TOLERANCES = {"fp32": 1e-3, "bf16": 0.1, "int8": 0.3}

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Lap:
    """What one candidate did.

    Parameters
    ----------
    name
        Of the candidate.
    batch
        Images at a time.
    turns
        Seconds of each prediction, of each turn.
    start
        What its process told of its start: ``first_s`` seconds until the first prediction was done,
        of them ``import_s`` and ``load_s``; ``rss_mb`` and ``peak_mb``, memory that it then held
        and the most that it had held.
    off
        How far its logits are from the network's, relative.
    """

    name: str
    batch: int
    turns: tuple[tuple[float, ...], ...]
    start: dict[str, float]
    off: float

    @property
    def times(self) -> np.ndarray:
        """Seconds of each prediction."""
        return np.concatenate(self.turns)

    @property
    def median_ms(self) -> float:
        """Median of a prediction in ms for each image."""
        return 1e3 * float(np.median(self.times)) / self.batch

    @property
    def spread_ms(self) -> tuple[float, float]:
        """First and third quartile in ms for each image."""
        low, high = 1e3 * np.percentile(self.times, (25, 75)) / self.batch
        return float(low), float(high)

    def ratio(self, other: Lap) -> tuple[float, float, float]:
        """Median of this one's time over the other's in the same round, and the quartiles."""
        rounds = [np.median(mine) / np.median(his) for mine, his in zip(self.turns, other.turns)]
        low, median, high = np.percentile(rounds, (25, 50, 75))
        return float(median), float(low), float(high)


@dataclasses.dataclass(frozen=True)
class Starter:
    """A candidate that has predicted and waits for its turns.

    Parameters
    ----------
    worker
        Its process.
    batch
        Images at a time.
    count
        Predictions of a turn.
    off
        How far its logits are from the network's.
    """

    worker: Worker
    batch: int
    count: int
    off: float


def race(
    folder: Path,
    names: Sequence[str],
    shape: Sequence[int],
    threads: int = 2,
    rounds: int = 15,
    expected: np.ndarray | None = None,
    say: Say = lambda line: None,
) -> tuple[list[Lap], dict[str, str]]:
    """Let candidates predict in turns, after a warm-up.

    Parameters
    ----------
    folder
        What ``prepare`` has filled.
    names
        Of candidates.
    shape
        Of the images.
    threads
        Of each candidate.
    rounds
        How often each has its turn; a turn is as many predictions as take about half a second.
    expected
        The logits of the first image; by default those of the first candidate.
    say
        Is told what is under way.

    Returns
    -------
    list of Lap, dict
        The second says why a candidate is missing, by its name: it stopped, or gave other logits.
    """
    with contextlib.ExitStack() as stack:
        starters, reasons = warm_up(stack, folder, names, shape, threads, expected, say)
        say(f"{rounds} rounds of {len(starters)} candidates")
        laps, stopped = told_apart(starters, take_turns(starters, rounds))
    return laps, {**reasons, **stopped}


def warm_up(
    stack: contextlib.ExitStack,
    folder: Path,
    names: Sequence[str],
    shape: Sequence[int],
    threads: int,
    expected: np.ndarray | None,
    say: Say,
) -> tuple[list[Starter], dict[str, str]]:
    """Start candidates, which the stack ends, and say why others are missing; see ``race``."""
    starters, reasons = [], {}
    for name in names:
        say(f"starting {name}")
        worker = Worker(folder, name, threads, shape)
        stack.callback(worker.close)
        try:
            logits = np.array(worker.first()["logits"])
            expected = logits if expected is None else expected
            off = check(name, logits, expected)
            count = max(1, round(TURN_SECONDS / min(worker.predict(3))))
        except RuntimeError as error:
            reasons[name] = str(error)
            say(f"no {name}: {error}")
            worker.close()
        else:
            starters.append(Starter(worker, shape[0], count, off))
    return starters, reasons


def take_turns(starters: Sequence[Starter], rounds: int) -> list[Lap | str]:
    """Let candidates, of one network or of several, predict in turns.

    Returns
    -------
    list
        What each did, or why it stopped.
    """
    turns: list[list[tuple[float, ...]]] = [[] for _ in starters]
    stopped: dict[int, str] = {}
    for _ in range(rounds):
        for n, starter in enumerate(starters):
            if n in stopped:
                continue
            try:
                starter.worker.predict(1)  # the others had the caches
                turns[n].append(tuple(starter.worker.predict(starter.count)))
            except RuntimeError as error:
                stopped[n] = str(error)
    return [
        stopped.get(n) or Lap(s.worker.name, s.batch, tuple(turns[n]), _costs(s.worker), s.off)
        for n, s in enumerate(starters)
    ]


def told_apart(
    starters: Sequence[Starter], found: Sequence[Lap | str]
) -> tuple[list[Lap], dict[str, str]]:
    """Return the laps, and why other candidates have none."""
    laps = [lap for lap in found if isinstance(lap, Lap)]
    pairs = zip(starters, found)
    return laps, {s.worker.name: why for s, why in pairs if isinstance(why, str)}


def _costs(worker: Worker) -> dict[str, Any]:
    return {key: value for key, value in worker.start.items() if key != "logits"}


def check(name: str, logits: np.ndarray, expected: np.ndarray) -> float:
    """Return how far logits are off.

    Raises
    ------
    RuntimeError
        If that is more than the candidate's precision explains.
    """
    off = float(np.linalg.norm(logits - expected) / np.linalg.norm(expected))
    limit = TOLERANCES[find(name).precision]
    if not off <= limit:
        raise RuntimeError(f"{name} gives other logits: off by {off:.3g}, allowed is {limit:g}")
    return off
