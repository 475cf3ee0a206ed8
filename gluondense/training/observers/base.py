# SPDX-License-Identifier: Apache-2.0
"""The hooks that the training loop calls on each of its observers, in the order of the list."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..run import Run


class Observer:
    """Base of observers: every hook does nothing.

    All workers of a run call the hooks of their own observers; those that write files or print
    belong to rank 0 alone.
    """

    def on_start(self, run: Run) -> None:
        """Prepare; the run stands where it starts or resumes."""

    def on_step(self, run: Run) -> None:
        """Observe a finished optimizer step."""

    def wants_save(self, run: Run) -> bool:
        """Ask to save; polled after each step."""
        return False

    def wants_stop(self, run: Run) -> bool:
        """Ask to save and stop; polled after each step, before each test batch and each epoch."""
        return False

    def on_save(self, run: Run) -> None:
        """Save the run, whose state is up to date and whose workers are synchronized."""

    def evaluating(self, run: Run) -> AbstractContextManager[None]:
        """Return a context in which the network is evaluated on the test set."""
        return nullcontext()

    def on_epoch(self, run: Run, predictions: Any, is_best: bool) -> None:
        """Observe a finished epoch, the last row of ``run.state.log``.

        ``predictions`` are the task's, for the test set; the best epoch exceeds all earlier ones.
        """

    def on_end(self, run: Run) -> None:
        """Finish; also called if the loss stops being finite."""
