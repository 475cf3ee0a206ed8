"""The learning rate on a parameter server that updates the weights itself (``dist_async``)."""

from __future__ import annotations

from typing import Callable


class ServerSchedule:
    """A schedule for an optimizer that counts the updates of all workers.

    It is sent to the servers, so what it holds must be importable there: servers of
    ``scripts/launch.py`` import all of gluondense before they serve, which MXNet's own don't.

    Parameters
    ----------
    schedule
        The learning rate of each step.
    workers
        Updates a step.
    start
        Steps done before the server's first update.

    Examples
    --------
    >>> rate = ServerSchedule([0.4, 0.3, 0.2].__getitem__, workers=2)
    >>> [rate(update) for update in (1, 2, 3, 4, 5)]
    [0.4, 0.4, 0.3, 0.3, 0.2]
    """

    def __init__(self, schedule: Callable[[int], float], workers: int, start: int = 0) -> None:
        self._schedule, self._workers, self._start = schedule, workers, start

    def __call__(self, update: int) -> float:
        """Return the learning rate of the update; 1 is the first."""
        return self._schedule(self._start + (update - 1) // self._workers)
