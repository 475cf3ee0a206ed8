"""The hooks that the training loop calls on each of its observers, in the order of the list."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..run import Run


class Request(enum.Flag):
    """What an observer asks the loop for."""

    NONE = 0
    SAVE = enum.auto()
    STOP = enum.auto()


@dataclass(frozen=True)
class EpochResult:
    """A finished epoch.

    Parameters
    ----------
    row
        Its row of the log.
    is_best
        Whether its best metric exceeds that of all earlier epochs.
    predictions
        The task's predictions for the test set.
    """

    row: Mapping[str, float]
    is_best: bool
    predictions: Any


class Observer:
    """Base of observers: every hook does nothing.

    All workers of a run call the hooks of their own observers; those that write files or print
    belong to rank 0 alone.
    """

    def on_start(self, run: Run) -> None:
        """Prepare; the run stands where it starts or resumes."""

    def on_step(self, run: Run) -> None:
        """Observe a finished optimizer step."""

    def request(self, run: Run) -> Request:
        """Ask to save or stop; polled after each step, between test batches and epochs."""
        return Request.NONE

    def on_save(self, run: Run) -> None:
        """Save the run, whose state is up to date and whose workers are synchronized."""

    def evaluating(self, run: Run) -> AbstractContextManager[None]:
        """Return a context in which the network is evaluated on the test set."""
        return nullcontext()

    def on_epoch(self, run: Run, result: EpochResult) -> None:
        """Observe a finished and evaluated epoch, which is in ``run.state.log``."""

    def on_end(self, run: Run) -> None:
        """Finish; also called if the loss stops being finite."""
