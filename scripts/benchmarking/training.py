"""Training steps of several trainers that take turns: their time and their memory."""

from __future__ import annotations

import contextlib
import datetime
import importlib.util
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go

from gluondense.analysis.costs import summary
from gluondense.reports.figures import styled
from gluondense.reports.page import document, plot, table

from .machine import machine, versions
from .process import Worker
from .race import Say
from .train_candidates import TRAINERS

COLUMNS = ("model", "batch", "size", "name", "ms", "ratio", "peak", "maps", "share", "planned")
COLORS = {True: "#e0317b", False: "#1d4ba8"}


def measure(
    models: Sequence[str],
    batches: Sequence[int],
    size: int = 224,
    threads: int = 2,
    rounds: int = 5,
    only: Sequence[str] = (),
    say: Say = lambda line: None,
) -> Iterator[dict[str, Any]]:
    """Measure, and yield what a file says of it after each network and batch.

    Parameters
    ----------
    models, batches, size
        Registry names, images a step, and their side.
    threads
        Of each trainer.
    rounds
        Steps of each, in turns.
    only
        Keys of ``TRAINERS``; by default all whose modules are installed.
    say
        Is told what is under way.

    Raises
    ------
    ValueError
        If there is no such trainer.
    RuntimeError
        If none can run.
    """
    for name in only:
        if name not in TRAINERS:
            raise ValueError(f"there is no trainer {name!r}: known are {', '.join(TRAINERS)}.")
    names = [name for name in TRAINERS if not only or name in only]
    content: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "versions": versions(),
        "machine": machine(),
        "threads": threads,
        "rows": [],
        "missing": [],
    }
    for model in models:
        for batch in batches:
            content["rows"] += _race(content, names, (model, batch, size), threads, rounds, say)
            yield content


def _race(
    content: dict[str, Any],
    names: Sequence[str],
    case: tuple[str, int, int],
    threads: int,
    rounds: int,
    say: Say,
) -> list[dict[str, Any]]:
    model, batch, _ = case
    found: dict[str, dict[str, Any]] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        workers: dict[str, Worker] = {}
        for name in names:
            try:
                _check_installed(TRAINERS[name].needs)
                say(f"{model}, batch {batch}: starting {name}")
                worker = Worker.training(folder, name, threads, case)
                stack.callback(worker.close)
                found[name] = {**worker.first(), "times": []}
                workers[name] = worker
            except RuntimeError as error:
                content["missing"].append({"name": name, "model": model, "reason": str(error)})
                say(f"no {name}: {error}")
        for _ in range(rounds):
            for name, worker in workers.items():
                found[name]["times"] += worker.predict(1)
    if not workers:
        raise RuntimeError(f"no trainer can run {model}: {content['missing'][0]['reason']}")
    return _rows(found, case)


def _check_installed(needs: Sequence[str]) -> None:
    for module in needs:
        if importlib.util.find_spec(module) is None:
            raise RuntimeError(f"{module} is not installed")


def _rows(found: dict[str, dict[str, Any]], case: tuple[str, int, int]) -> list[dict[str, Any]]:
    model, batch, size = case
    # Gradients and momenta come to be in the first steps, parameters have been there before.
    held = 2 * 4 * summary(model, input_shape=(1, 3, size, size)).params / 2**20
    maps = {name: row["peak_mb"] - row["before_mb"] - held for name, row in found.items()}
    base = "plain" if "plain" in found else next(iter(found))
    rows = []
    for name, row in found.items():
        ratios = np.array(row["times"]) / np.array(found[base]["times"])
        low, median, high = np.percentile(row["times"], (25, 50, 75)) * 1e3 / batch
        rows.append(
            {
                "model": model,
                "batch": batch,
                "size": size,
                "name": name,
                "ours": TRAINERS[name].ours,
                "base": base,
                "ms": float(median),
                "quartiles_ms": [float(low), float(high)],
                "ratio": float(np.median(ratios)),
                "peak": row["peak_mb"],
                "maps": maps[name],
                "share": maps[name] / maps[base],
                "planned": row["planned_mb"],
            }
        )
    return rows


def text(rows: Sequence[dict[str, Any]]) -> str:
    """Return a Markdown table: ms an image, time over the base's, MB at the peak and of maps.

    Parameters
    ----------
    rows
        Of ``measure``.
    """
    lines = [" | ".join(COLUMNS), "|".join("---" for _ in COLUMNS)]
    for row in rows:
        cells = [row[key] for key in ("model", "batch", "size", "name")]
        cells += [f"{row['ms']:.1f}", f"{row['ratio']:.2f}", f"{row['peak']:.0f}"]
        cells += [f"{row['maps']:.0f}", f"{row['share']:.2f}", row["planned"] or "-"]
        lines.append(" | ".join(map(str, cells)))
    return "\n".join(f"| {line} |" for line in lines) + "\n"


def page(content: dict[str, Any]) -> str:
    """Return one HTML file: memory against time, for each network and batch.

    Parameters
    ----------
    content
        Of ``measure``.
    """
    sections = []
    for case in dict.fromkeys((row["model"], row["batch"]) for row in content["rows"]):
        rows = [row for row in content["rows"] if (row["model"], row["batch"]) == case]
        sections.append(f"<section><h2>{case[0]}, batch {case[1]}</h2>{plot(_figure(rows))}")
        sections.append("</section>")
    subtitle = f"{content['date']} · {content['threads']} threads · trainers that took turns"
    command = f"<p><code>{content['command']}</code></p>"
    about = f"<section>{table('Versions', content['versions'])}{command}</section>"
    return document("Training: memory against time", subtitle, "".join(sections) + about)


def _figure(rows: Sequence[dict[str, Any]]) -> go.Figure:
    figure = go.Figure()
    for ours in (True, False):
        group = [row for row in rows if row["ours"] is ours]
        figure.add_scatter(
            x=[row["ms"] for row in group],
            y=[row["maps"] for row in group],
            text=[row["name"] for row in group],
            name="gluondense" if ours else "peers",
            mode="markers+text",
            textposition=[_side(row, rows) for row in group],
            cliponaxis=False,
            marker={"color": COLORS[ours], "size": 10},
        )
    styled(figure, height=420).update_layout(margin_t=20)
    for update, key, title in (
        (figure.update_xaxes, "ms", "ms an image"),
        (figure.update_yaxes, "maps", "MB for maps"),
    ):
        update(title=title, range=[0, 1.1 * max(row[key] for row in rows)])
    return figure


def _side(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    """Write a point's name below it where another's would be."""
    close = {key: 0.15 * max(other[key] for other in rows) for key in ("ms", "maps")}
    crowded = any(
        abs(other["ms"] - row["ms"]) < close["ms"]
        and 0 < other["maps"] - row["maps"] < close["maps"]
        for other in rows
    )
    return "bottom center" if crowded else "top center"
