# SPDX-License-Identifier: Apache-2.0
"""Progress on the terminal: a bar, a line at some steps and a line at each epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

from tqdm import tqdm

from .base import Observer

if TYPE_CHECKING:
    from ..run import Run


class ProgressLog(Observer):
    """Shows a bar on a terminal, and prints a line every ``interval`` steps and each epoch.

    An ``interval`` of 0 prints epochs only.
    """

    def __init__(self, interval: int, bar: bool) -> None:
        self._interval, self._show = interval, bar
        self._bar: Optional[tqdm] = None

    def on_start(self, run: Run) -> None:
        """Open the bar of the first epoch."""
        self._open(run)

    def on_step(self, run: Run) -> None:
        """Advance the bar and print a line if one is due."""
        state, bar = run.state, self._bar
        if state.meter.images:
            if self._interval and state.batch % self._interval == 0:
                print(step_line(run), flush=True)
            means = zip(run.task.train_metrics, state.meter.means())
            if bar is not None:
                bar.set_postfix_str(", ".join(f"{m.name} {x:.3f}" for m, x in means), False)
        if bar is not None:
            bar.update(run.train_loader.count(state.batch - 1))

    def on_epoch(self, run: Run, predictions: Any, is_best: bool) -> None:
        """Print the epoch's line."""
        self.on_end(run)
        print(epoch_line(run, is_best), flush=True)
        self._open(run)

    def on_end(self, run: Run) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()

    def _open(self, run: Run) -> None:
        epoch, epochs = run.state.epoch, run.config.schedule.epochs
        if epoch < epochs:
            sizes = [run.train_loader.count(batch) for batch in range(len(run.train_loader))]
            self._bar = tqdm(
                total=sum(sizes),
                initial=sum(sizes[: run.state.batch]),
                desc=f"epoch {epoch + 1}/{epochs}",
                unit=" images",
                leave=False,
                dynamic_ncols=True,
                disable=None if self._show else True,  # None: unless stderr is a terminal
            )


def step_line(run: Run) -> str:
    """Return the line of a step in the format of GluonCV's scripts, which users' tools parse."""
    state, metrics = run.state, run.task.train_metrics
    speed = state.meter.images / max(state.epoch_seconds, 1e-9)
    loss, *others = (f"{m.name}={mean:f}" for m, mean in zip(metrics, state.meter.means()))
    fields = [f"Speed: {speed:f} samples/sec", *others, loss, f"lr={run.trainer.learning_rate:f}"]
    return "\t".join([f"Epoch[{state.epoch}] Batch [{state.batch}]", *fields])


def epoch_line(run: Run, is_best: bool) -> str:
    """Return the line of the last epoch."""
    row, task, epochs = run.state.log[-1], run.task, run.config.schedule.epochs
    epoch = row["epoch"]
    fields = [f"epoch {epoch:g}/{epochs}"]
    for metric in (*task.train_metrics, *task.test_metrics):
        if metric.title:
            mark = " (best)" if metric == task.best and is_best else ""
            fields.append(f"{metric.title} {metric.show(row)}{mark}")
    left = (epochs - epoch) * row["epoch_s"]
    return "  ".join([*fields, f"{row['images_per_s']:,.0f} images/s", f"{left / 60:.0f} min left"])
