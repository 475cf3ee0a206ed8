"""The report of a run: a self-contained HTML page."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Union

import numpy as np

from ..analysis.costs import Summary, summary
from ..files import write_bytes
from ..reports.page import ClassifiedImage, columns, document, gallery, plot, section, tiles
from . import checkpoint
from .checkpoint import Checkpoint
from .config import TrainConfig
from .run_folder import RunFolder, SavedPredictions
from .schedule import make_schedule

MAX_POINTS = 400  # of the learning rate's curve


@dataclass(frozen=True)
class _Run:
    """The contents of a run's folder."""

    config: TrainConfig
    rows: list[dict[str, float]]
    best: Checkpoint
    saved: SavedPredictions

    @cached_property
    def cost(self) -> Summary:
        return summary(self.best.model_name, self.best.input_shape, **self.best.spec)


def write_report(path: Union[str, os.PathLike]) -> Path:
    """Write ``report.html`` into a run's folder, from the folder's files only.

    Parameters
    ----------
    path
        The run's folder.

    Returns
    -------
    Path
        The report.

    Raises
    ------
    FileNotFoundError
        If the folder holds no run, or the run has no finished epoch.
    """
    folder = RunFolder(path)
    config, rows, saved = folder.config(), folder.rows(), folder.predictions()
    if not rows or saved is None:
        raise FileNotFoundError(f"{folder.path} has no finished epoch: there is nothing to report.")
    run = _Run(config, rows, checkpoint.load(folder.best), saved)
    body = "\n".join((tiles(_tiles(run)), _history(run), *_predictions(run), _tables(run)))
    page = document(f"{config.model.name} on {config.data.dataset}", _subtitle(run), body)
    write_bytes(folder.report, page.encode())
    return folder.report


def _subtitle(run: _Run) -> str:
    config, done = run.config, len(run.rows)
    devices = ", ".join(f"GPU {gpu}" for gpu in config.runtime.gpus) or "CPU"
    epochs = config.schedule.epochs
    state = f"{done} epochs" if done == epochs else f"{done} of {epochs} epochs"
    return f"recipe {config.recipe} · {state} · seed {config.runtime.seed} · {devices}"


def _tiles(run: _Run) -> list[tuple[str, str]]:
    last, best = run.rows[-1], run.best.metrics
    return [
        (f"{best['test_acc']:.2%}", f"best test accuracy, epoch {best['epoch']:.0f}"),
        (f"{last['test_acc']:.2%}", "last test accuracy"),
        (_short(run.cost.params), "parameters"),
        (_short(run.cost.macs), "multiply-adds an image"),
        (_duration(last["wall_s"]), "training time"),
        (f"{last['images_per_s']:,.0f}", "images a second"),
    ]


def _history(run: _Run) -> str:
    # Imported here, as below, because plotly takes a second to import.
    from ..reports.figures import history_figure

    def column(name: str) -> list[float]:
        return [row[name] for row in run.rows]

    figure = history_figure(
        column("epoch"),
        {"train loss": column("train_loss"), "test loss": column("test_loss")},
        {"train accuracy": column("train_acc"), "test accuracy": column("test_acc")},
        _learning_rates(run),
        run.config.schedule.epochs,
    )
    note = "Loss and accuracy after each epoch, learning rate at each step."
    return section("Training", plot(figure), note)


def _learning_rates(run: _Run) -> tuple[list[float], list[float]]:
    """Sample the schedule over the finished epochs: epochs with fractions, learning rates."""
    done = int(run.rows[-1]["step"])
    per_epoch = int(done // run.rows[-1]["epoch"])
    schedule = make_schedule(run.config.schedule, run.config.optimizer.lr, per_epoch)
    steps = sorted({int(step) for step in np.linspace(0, done - 1, min(done, MAX_POINTS))})
    return [step / per_epoch for step in steps], [schedule(step) for step in steps]


def _predictions(run: _Run) -> Iterable[str]:
    from ..reports.figures import MAX_CLASSES, confusion_figure, recall_figure

    saved, names = run.saved, run.best.class_names
    predictions = saved.predictions
    note = (
        f"The {predictions.readable.sum():,} test images after epoch {saved.epoch}, the best; "
        f"{len(predictions.misclassified()):,} are taken for another class."
    )
    if len(names) > MAX_CLASSES:
        note += f" Shown are the {MAX_CLASSES} of {len(names):,} classes with the most mistakes."
    plots = plot(confusion_figure(predictions, names)) + plot(recall_figure(predictions, names))
    yield section("Confusion", f'<div class="split">{plots}</div>', note)
    first = _images(run, range(len(saved.first_images)), saved.first_images)
    yield section("Predictions", gallery(first), "The first images of the test set.")
    worst = _images(run, saved.worst, saved.worst_images)
    note = "Wrong answers that the network was surest of."
    yield section("Worst mistakes", gallery(worst), note)


def _images(
    run: _Run, indices: Iterable[int], pixels: Iterable[np.ndarray]
) -> Iterable[ClassifiedImage]:
    predictions, names = run.saved.predictions, run.best.class_names
    for index, image in zip(indices, pixels):
        if predictions.readable[index]:
            label, predicted = predictions.labels[index], predictions.predicted[index]
            probability = predictions.top_probabilities[index, 0]
            yield ClassifiedImage(index, image, names[label], names[predicted], probability)


def _tables(run: _Run) -> str:
    best, last, config = run.best, run.rows[-1], run.config.flat()
    model = {
        "model": best.model_name,
        "input": " × ".join(map(str, best.input_shape[1:])),
        "parameters": f"{run.cost.params:,}",
        "multiply-adds": f"{run.cost.macs:,}",
        **best.spec,
        "mean": best.mean,
        "std": best.std,
    }
    progress = {
        "epochs done": len(run.rows),
        "steps": f"{last['step']:,.0f}",
        "training time": _duration(last["wall_s"]),
        "CPU time": _duration(last["cpu_s"]),
        "last train loss": f"{last['train_loss']:.4f}",
        "last test loss": f"{last['test_loss']:.4f}",
        **best.versions,
    }
    # A report may be published, and data_dir is a local path; model_args repeats the spec.
    recipe = {key: value for key, value in config.items() if key not in ("data_dir", "model_args")}
    tables = {"Network": model, "Recipe": recipe, "Run": progress}
    return section("Model and run", columns(tables))


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
