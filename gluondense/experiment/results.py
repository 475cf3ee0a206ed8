# SPDX-License-Identifier: Apache-2.0
"""The results of an experiment, from the folders of its runs."""

from __future__ import annotations

import csv
import io
import math
import shlex
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from ..analysis.costs import Summary
from ..detection.registry import get_row
from ..files import write_bytes
from ..training import checkpoint
from ..training.config import TrainConfig
from ..training.configuration.sections import FIELDS
from ..training.run_folder import RunFolder
from ..training.tasks.base import Metric
from ..training.tasks.registry import find_task
from ..weights.published import PublishedError, published_errors
from .plan import PlannedRun

__all__ = ["Group", "Result", "check_unchanged", "is_complete", "read_groups", "write_csv"]

# A complete run is trained again only under another name if one of these fields has changed.
DECISIVE = (
    *("model", "model_args", "pretrained", "freeze", "dataset", "augment", "batch_size", "dtype"),
    *(name for name, (at, _) in FIELDS.items() if at in ("task", "optimizer", "schedule")),
)


@dataclass(frozen=True)
class Result:
    """What a run has reached.

    Parameters
    ----------
    run, folder
        The run, and its folder.
    config
        Its configuration.
    log
        Its finished epochs, rows of ``log.csv``.
    """

    run: PlannedRun
    folder: Path
    config: TrainConfig
    log: list[dict[str, float]]

    @property
    def metric(self) -> Metric:
        """The metric of the run's task."""
        return find_task(self.config.task.name).best

    @property
    def last(self) -> dict[str, float]:
        """The last finished epoch."""
        return self.log[-1]

    @property
    def is_complete(self) -> bool:
        """Whether the run has ended by its configuration."""
        best = self.metric.best_row(self.log)["epoch"]
        return self.config.schedule.end(self.last["epoch"], self.last["step"], best) is not None

    @property
    def value(self) -> float:
        """The metric on the test images after the last epoch; the best epoch is no result."""
        return self.last[self.metric.column]


@dataclass(frozen=True)
class Group:
    """The complete runs of a row of the table, which differ in the seed only.

    Parameters
    ----------
    name
        Name of the row.
    results
        One for each seed; at least one.
    cost
        Parameters and multiply-adds of the network.
    published
        Published errors of the same network on the same data set.
    """

    name: str
    results: tuple[Result, ...]
    cost: Summary
    published: tuple[PublishedError, ...]

    @property
    def metric(self) -> Metric:
        """The metric of the runs' task."""
        return self.results[0].metric

    @property
    def values(self) -> list[float]:
        """The metric after the last epoch, for each seed."""
        return [result.value for result in self.results]

    @property
    def mean(self) -> float:
        """The mean over the seeds."""
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float:
        """The sample standard deviation over the seeds; NaN for one seed."""
        return statistics.stdev(self.values) if len(self.values) > 1 else math.nan

    @property
    def seconds(self) -> float:
        """The mean training time."""
        return statistics.fmean(result.last["wall_s"] for result in self.results)


def read_result(run: PlannedRun, folder: Path) -> Optional[Result]:
    """Return what a run has reached, None if it has no finished epoch."""
    files = RunFolder(folder / run.folder)
    if not (files.path / "config.json").is_file():
        return None
    config, log = files.config(), files.rows()
    return Result(run, files.path, config, log) if log else None


def is_complete(run: PlannedRun, folder: Path) -> bool:
    """Return whether a run has been trained to its end."""
    result = read_result(run, folder)
    return result is not None and result.is_complete


def check_unchanged(run: PlannedRun, config: TrainConfig, folder: Path) -> None:
    """Raise a ValueError if a complete run was trained with another configuration than now."""
    result = read_result(run, folder)
    if result is None or not result.is_complete:
        return
    before, now = result.config.flat(), config.flat()
    for name in DECISIVE:
        if before[name] != now[name]:
            raise ValueError(
                f"{result.folder} was trained with {name} {before[name]!r}, not {now[name]!r}: "
                f"give the row {run.name!r} another name, or remove the folders of its runs."
            )


def read_groups(runs: Sequence[PlannedRun], folder: Path) -> list[Group]:
    """Return the results of the complete runs, in the order of the table."""
    found: dict[str, list[Result]] = {run.name: [] for run in runs}
    for run in runs:
        result = read_result(run, folder)
        if result is not None and result.is_complete:
            found[run.name].append(result)
    return [_group(results) for results in found.values() if results]


def _group(results: Sequence[Result]) -> Group:
    first = results[0]
    saved, data = checkpoint.load(first.folder), first.config.data
    spec = get_row(saved.model_name, **saved.spec)
    cost = saved.costs()
    published = published_errors(
        saved.model_name, data.dataset, augmented=bool(data.augment), spec=spec
    )
    return Group(first.run.name, tuple(results), cost, tuple(published))


def write_csv(groups: Iterable[Group], path: Path) -> None:
    """Write a row for each run."""
    rows = [_row(group, result) for group in groups for result in group.results]
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0] if rows else ["name"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode())


def _row(group: Group, result: Result) -> dict[str, Any]:
    last, config = result.last, result.config
    published = group.published[0] if group.published else None
    return {
        "name": group.name,
        "seed": result.run.seed,
        "dataset": config.data.title,
        "model": config.model.name,
        "arguments": shlex.join(result.run.arguments),
        "epochs": f"{last['epoch']:g}",
        "metric": result.metric.column,
        "value": f"{result.value:.6g}",
        "params": group.cost.params,
        "macs": group.cost.macs,
        "training_s": f"{last['wall_s']:.1f}",
        "training_cpu_s": f"{last['cpu_s']:.1f}",
        "published_top1_error": "" if published is None else f"{published.top1:g}",
        "published_by": "" if published is None else published.source,
    }
