# SPDX-License-Identifier: Apache-2.0
"""The report of a run: a self-contained HTML page."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Union

import numpy as np

from ..analysis.costs import Summary
from ..files import write_bytes
from ..reports.page import columns, document, plot, section, tiles
from . import checkpoint
from .checkpoint.description import Checkpoint
from .config import TrainConfig
from .configuration.detection_fields import DETECTION_FIELDS, LOSS_FIELDS
from .configuration.folder_fields import FOLDER_FIELDS
from .fine_tuning.pretrained import describe_loaded
from .run_data import PATHS
from .run_folder import RunFolder
from .schedule import make_schedule
from .tasks.base import Metric, Task, evaluated_split
from .tasks.explanations import MAPS
from .tasks.registry import find_task

MAX_POINTS = 400  # of the learning rate's curve
# A report may be published, so it has no local paths; model_args repeats the spec.
HIDDEN = {*PATHS, "model_args", "pretrained"}
# Fields of runs on a data set only.
OWN_FIELDS = {"folder": FOLDER_FIELDS, "detection": (*DETECTION_FIELDS, *LOSS_FIELDS)}


@dataclass(frozen=True)
class _Run:
    """The contents of a run's folder."""

    config: TrainConfig
    rows: list[dict[str, float]]
    best: Checkpoint
    predictions: dict[str, np.ndarray]

    @cached_property
    def task(self) -> type[Task]:
        return find_task(self.config.task.name)

    @property
    def split(self) -> str:
        return evaluated_split(self.predictions)

    @cached_property
    def cost(self) -> Summary:
        return self.best.costs()


def write_report(path: Union[str, os.PathLike], explain: bool = True) -> Path:
    """Write ``report.html`` into a run's folder, from the folder's files only; return its path.

    Parameters
    ----------
    path
        The run's folder.
    explain
        Whether to compute the explanations of the best predictions, if the folder lacks them.

    Raises
    ------
    FileNotFoundError
        If the folder holds no run, or the run has no finished epoch.
    """
    folder = RunFolder(path)
    config, rows, predictions = folder.config(), folder.rows(), folder.predictions()
    if not rows or predictions is None:
        raise FileNotFoundError(f"{folder.path} has no finished epoch: there is nothing to report.")
    run = _Run(config, rows, checkpoint.load(folder.best), predictions)
    if explain and MAPS not in predictions:
        predictions.update(_explain(run))
        folder.save_predictions(predictions)
    sections = run.task.report_sections(predictions, run.best.class_names)
    body = "\n".join((tiles(_tiles(run)), _history(run), *sections, _tables(run)))
    page = document(f"{config.model.name} on {config.data.title}", _subtitle(run), body)
    write_bytes(folder.report, page.encode())
    return folder.report


def _explain(run: _Run) -> dict[str, np.ndarray]:
    """Return the task's explanations; a network that has none is a warning, not an error."""
    try:
        return run.task.explain(run.best.network(), run.predictions, run.best.preprocessing)
    except ValueError as error:
        print(f"warning: the report has no explanations: {error}", file=sys.stderr)
        return {}


def _subtitle(run: _Run) -> str:
    config, done = run.config, run.rows[-1]["epoch"]
    devices = ", ".join(f"GPU {gpu}" for gpu in config.runtime.gpus) or "CPU"
    epochs = config.schedule.epochs
    state = f"{done:g} epochs" if done == epochs else f"{done:g} of {epochs} epochs"
    return f"recipe {config.recipe} · {state} · seed {config.runtime.seed} · {devices}"


def _tiles(run: _Run) -> list[tuple[str, str]]:
    last, best, metric = run.rows[-1], run.best.metrics, run.task.best
    return [
        (metric.show(best), f"best {run.split} {metric.name}, epoch {best['epoch']:g}"),
        (metric.show(last), f"last {run.split} {metric.name}"),
        (_short(run.cost.params), "parameters"),
        (_short(run.cost.macs), "multiply-adds an image"),
        (_duration(last["wall_s"]), "training time"),
        (f"{last['images_per_s']:,.0f}", "images a second"),
    ]


def _history(run: _Run) -> str:
    # Imported here because plotly takes a second to import.
    from ..reports.figures import history_figure, parts_figure

    def curves(name: str) -> dict[str, list[float]]:
        metrics = _metrics(run, name)
        return {title: [row[metric.column] for row in run.rows] for title, metric in metrics}

    best = run.task.best
    figure = history_figure(
        [row["epoch"] for row in run.rows],
        curves("loss"),
        curves(best.name),
        _learning_rates(run),
        run.config.schedule.epochs,
        best.name,
        best.format,
    )
    note = f"Loss and {best.name} after each epoch, learning rate at each step."
    body = plot(figure)
    if parts := run.task.loss_parts:
        values = {metric.name: [row[metric.column] for row in run.rows] for metric in parts}
        body += plot(parts_figure([row["epoch"] for row in run.rows], values))
        note += " Below are the parts of the training loss."
    return section("Training", body, note)


def _metrics(run: _Run, name: str) -> Iterator[tuple[str, Metric]]:
    """Yield the metrics of a name in training and in evaluation, with titles."""
    parts = ("train", run.task.train_metrics), (run.split, run.task.test_metrics)
    for part, metrics in parts:
        yield from ((f"{part} {name}", metric) for metric in metrics if metric.name == name)


def _learning_rates(run: _Run) -> tuple[list[float], list[float]]:
    """Sample the schedule over the finished epochs: epochs with fractions, learning rates."""
    done = int(run.rows[-1]["step"])
    per_epoch = round(done / run.rows[-1]["epoch"])
    schedule = make_schedule(run.config.schedule, run.config.optimizer.lr, per_epoch)
    steps = sorted({int(step) for step in np.linspace(0, done - 1, min(done, MAX_POINTS))})
    return [step / per_epoch for step in steps], [schedule(step) for step in steps]


def _tables(run: _Run) -> str:
    best, last, config = run.best, run.rows[-1], run.config.flat()
    model = {
        "model": best.model_name,
        "input": " × ".join(map(str, best.input_shape[1:])),
        "parameters": f"{run.cost.params:,}",
        "multiply-adds": f"{run.cost.macs:,}",
        **best.spec,
        **_initial(best),
        "mean": best.mean,
        "std": best.std,
    }
    progress = {
        "epochs done": f"{last['epoch']:g}",
        "steps": f"{last['step']:,.0f}",
        "training time": _duration(last["wall_s"]),
        "CPU time": _duration(last["cpu_s"]),
        **{f"last {title}": metric.show(last) for title, metric in _metrics(run, "loss")},
        **best.versions,
    }
    others = (names for dataset, names in OWN_FIELDS.items() if dataset != config["dataset"])
    hidden = HIDDEN.union(*others)
    recipe = {key: value for key, value in config.items() if key not in hidden}
    tables = {"Network": model, "Recipe": recipe, "Run": progress}
    return section("Model and run", columns(tables))


def _initial(best: Checkpoint) -> dict[str, str]:
    """Return the row about the initial weights, if there are any."""
    if best.pretrained is None:
        return {}
    return {
        "initial weights": describe_loaded(best.pretrained, len(best.class_names)),
        "preprocessing of these": best.pretrained["preprocessing"],
    }


def _short(count: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
