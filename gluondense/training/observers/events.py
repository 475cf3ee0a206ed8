# SPDX-License-Identifier: Apache-2.0
"""Event files for TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .base import Observer

if TYPE_CHECKING:
    from ..run import Run


class EventFiles(Observer):
    """Writes the log's columns at each epoch; loss and learning rate every ``interval`` steps.

    An ``interval`` of 0 writes epochs only. Needs tensorboardX.
    """

    def __init__(self, folder: Path, interval: int) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise ValueError(
                'tensorboard needs a package: pip install "gluondense[tensorboard]"'
            ) from None
        self._make_writer = SummaryWriter
        self._folder, self._interval = folder, interval

    def on_start(self, run: Run) -> None:
        """Open a file; entries that an earlier process wrote beyond this step are hidden."""
        self._writer: Any = self._make_writer(str(self._folder), purge_step=run.state.step or None)

    def on_step(self, run: Run) -> None:
        """Write the running mean of the loss and the learning rate."""
        state = run.state
        if self._interval and state.batch % self._interval == 0 and state.meter.images:
            self._writer.add_scalar("step/loss", state.meter.means()[0], state.step)
            self._writer.add_scalar("step/lr", run.trainer.learning_rate, state.step)

    def on_epoch(self, run: Run, predictions: Any, is_best: bool) -> None:
        """Write the row of the log."""
        for name, value in run.state.log[-1].items():
            self._writer.add_scalar(f"epoch/{name}", value, run.state.step)

    def on_end(self, run: Run) -> None:
        """Flush and close the file."""
        self._writer.close()
