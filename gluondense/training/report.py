"""The report of a run: one HTML file that needs nothing but a browser."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Union

import numpy as np
from PIL import Image

from ..analysis.costs import Summary, summary
from ..reports.page import document, plot, table
from . import checkpoint
from .checkpoint import Checkpoint
from .config import TrainConfig
from .run_folder import RunFolder, SavedPredictions, replace_file
from .schedule import make_schedule


@dataclass(frozen=True)
class _Facts:
    """All that a report is made of."""

    config: TrainConfig
    rows: list[dict[str, float]]
    best: Checkpoint
    answers: SavedPredictions


def write_report(path: Union[str, os.PathLike]) -> Path:
    """Write ``report.html`` into a run's folder, from nothing but what lies there.

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
        If no epoch of the run is finished yet, or it is no run.
    """
    folder = RunFolder(path)
    config, rows, kept = folder.config(), folder.rows(), folder.predictions()
    if not rows or kept is None:
        raise FileNotFoundError(f"{folder.path} has no finished epoch: there is nothing to report.")
    facts = _Facts(config, rows, checkpoint.load(folder.best), kept)
    replace_file(folder.report, _page(facts).encode())
    return folder.report


def _page(facts: _Facts) -> str:
    # Imported here: plotly takes a second, and only reports need it.
    from ..reports.figures import confusion_figure, history_figure, recall_figure

    config, names = facts.config, facts.best.class_names
    answers, kept = facts.answers.evaluation, facts.answers
    last = facts.rows[-1]
    schedule = make_schedule(config, int(last["step"] // last["epoch"]))
    body = f"""<div class="tiles">{_tiles(facts)}</div>
<section><h2>Training</h2><p>Loss and accuracy after each epoch, learning rate at each step.</p>
{plot(history_figure(facts.rows, config.epochs, schedule))}</section>
<section><h2>Confusion</h2>
<p>The {answers.readable.sum():,} test images after epoch {kept.epoch}, the best;
{len(answers.misclassified()):,} are taken for another class.{_only(names)}</p>
<div class="split">{plot(confusion_figure(answers, names))}
{plot(recall_figure(answers, names))}</div></section>
<section><h2>Predictions</h2><p>The first images of the test set.</p>
{_gallery(facts, range(len(kept.first_images)), kept.first_images)}</section>
<section><h2>Worst mistakes</h2><p>Wrong answers that the network was surest of.</p>
{_gallery(facts, kept.worst, kept.worst_images)}</section>
<section><h2>Model and run</h2>{_tables(facts)}</section>"""
    return document(f"{config.model} on {config.dataset}", _subtitle(facts), body)


def _only(names: Sequence[str]) -> str:
    from ..reports.figures import MAX_CLASSES

    few = f" Shown are the {MAX_CLASSES} of {len(names):,} classes with the most mistakes."
    return few if len(names) > MAX_CLASSES else ""


def _subtitle(facts: _Facts) -> str:
    config, done = facts.config, len(facts.rows)
    devices = ", ".join(f"GPU {gpu}" for gpu in config.gpus) or "CPU"
    state = f"{done} epochs" if done == config.epochs else f"{done} of {config.epochs} epochs"
    return f"recipe {config.recipe} · {state} · seed {config.seed} · {devices}"


def _tiles(facts: _Facts) -> str:
    last, cost = facts.rows[-1], _cost(facts.best)
    best = facts.best.metrics
    tiles = [
        (f"{best['test_acc']:.2%}", f"best test accuracy, epoch {best['epoch']:.0f}"),
        (f"{last['test_acc']:.2%}", "last test accuracy"),
        (_short(cost.params), "parameters"),
        (_short(cost.macs), "multiply-adds an image"),
        (_duration(last["wall_s"]), "training time"),
        (f"{last['images_per_s']:,.0f}", "images a second"),
    ]
    return "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(what)}</span></div>'
        for value, what in tiles
    )


def _gallery(facts: _Facts, indices: Iterable[int], images: np.ndarray) -> str:
    answers, names = facts.answers.evaluation, facts.best.class_names
    cards = []
    for index, image in zip(indices, images):
        if answers.labels[index] < 0:
            continue
        true, likely = int(answers.labels[index]), int(answers.predicted[index])
        verdict = "right" if true == likely else "wrong"
        share = answers.top_probabilities[index, 0]
        cards.append(
            f'<figure><img src="{_png(image)}" alt="test image {index}" title="test image {index}">'
            f'<figcaption><span class="true">true: {escape(names[true])}</span>'
            f'<span class="{verdict}">{escape(names[likely])}</span>'
            f'<span class="true">sure to {share:.1%}</span></figcaption></figure>'
        )
    return f'<div class="pictures">{"".join(cards)}</div>' if cards else "<p>There are none.</p>"


def _tables(facts: _Facts) -> str:
    best, config = facts.best, facts.config.to_dict()
    cost = _cost(best)
    model = {
        "model": best.model_name,
        "input": " × ".join(map(str, best.input_shape[1:])),
        "parameters": f"{cost.params:,}",
        "multiply-adds": f"{cost.macs:,}",
        **best.spec,
        "mean": best.mean,
        "std": best.std,
    }
    run = {
        "epochs done": len(facts.rows),
        "steps": f"{facts.rows[-1]['step']:,.0f}",
        "training time": _duration(facts.rows[-1]["wall_s"]),
        "CPU time": _duration(facts.rows[-1]["cpu_s"]),
        "last train loss": f"{facts.rows[-1]['train_loss']:.4f}",
        "last test loss": f"{facts.rows[-1]['test_loss']:.4f}",
        **best.versions,
    }
    # The command line names a local folder, which is no one else's business.
    recipe = {key: value for key, value in config.items() if key not in ("data_dir", "model_args")}
    columns = (("Network", model), ("Recipe", recipe), ("Run", run))
    return f'<div class="columns">{"".join(table(*column) for column in columns)}</div>'


def _cost(best: Checkpoint) -> Summary:
    return summary(best.model_name, best.input_shape, **best.spec)


def _png(image: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


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
