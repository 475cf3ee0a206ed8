"""What was measured, as one HTML file that needs nothing but a browser."""

from __future__ import annotations

from html import escape
from typing import Any

from ..training.page import document, plot, table
from .figures import (
    latency_figure,
    memory_figure,
    ratio_figure,
    start_figure,
    throughput_figure,
)
from .results import FLOORS, floor_ms

Row = dict[str, Any]
Content = dict[str, Any]


def page(content: Content) -> str:
    """Return the page.

    Parameters
    ----------
    content
        Of ``measure``, or of a file of its.
    """
    models = list(dict.fromkeys(row["model"] for row in content["rows"]))
    machine = content["machine"]
    subtitle = (
        f"{content['date']} · {content['threads']} threads · {machine['cpu']}, "
        f"{machine['cores']} cores · medians and quartiles of candidates that took turns"
    )
    sections = "".join(_model(content, model) for model in models)
    return document("Speed beside the peers", subtitle, sections + _about(content))


def _model(content: Content, model: str) -> str:
    rows = [row for row in content["rows"] if row["model"] == model]
    size, batch = rows[0]["size"], rows[0]["batch"]
    of_size = [row for row in rows if row["size"] == size]
    of_batch = [row for row in rows if row["batch"] == batch]
    first = [row for row in of_size if row["batch"] == batch]
    speeds = [row for row in content["throughput"] if row["model"] == model]
    charts = [
        ("Latency against the batch", latency_figure(of_size, "batch"), _many(of_size, "batch")),
        ("Latency against the image", latency_figure(of_batch, "size"), _many(of_batch, "size")),
        ("Throughput", throughput_figure(speeds) if speeds else None, bool(speeds)),
        ("Memory", memory_figure(first), True),
        ("Start", start_figure(first), True),
    ]
    parts = "".join(
        f"<section><h2>{title}</h2>{plot(figure)}</section>"
        for title, figure, shown in charts
        if shown
    )
    return (
        f'<div class="tiles">{_tiles(content, model, first)}</div>'
        f"<section><h2>{escape(model)}, {size}x{size}</h2>"
        "<p>Below 1 is faster than the best peer.</p>"
        f'{plot(ratio_figure(of_size))}</section><div class="pair">{parts}</div>'
    )


def _many(rows: list[Row], key: str) -> bool:
    return len({row[key] for row in rows}) > 1


def _tiles(content: Content, model: str, rows: list[Row]) -> str:
    tiles = []
    for precision in dict.fromkeys(row["precision"] for row in rows):
        ours = [row for row in rows if row["precision"] == precision and row["ours"]]
        best = min(ours, key=lambda row: row["median_ms"], default=None)
        if best and best["to_best_peer"]:
            peer = best["to_best_peer"]
            what = (
                f"{precision}: {best['name']}'s time over {peer['name']}'s, batch {best['batch']}"
            )
            tiles.append((f"{peer['ratio']:.2f}", what))
            tiles.append((f"{best['median_ms']:.1f} ms", f"{precision}: {best['name']}, an image"))
    for row in content.get("costs", []):
        if row["model"] == model:
            floors = [max(floor_ms(row, content["peaks"], kind)) for kind in FLOORS]
            values = " · ".join(f"{value:.1f}" for value in floors)
            tiles.append((f"{values} ms", f"floor of this CPU, {' · '.join(FLOORS)}"))
    return "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(what)}</span></div>'
        for value, what in tiles
    )


def _about(content: Content) -> str:
    machine = {
        name.replace("_", " "): ", ".join(f"{k} {v}" for k, v in value.items())
        if isinstance(value, dict)
        else value
        for name, value in content["machine"].items()
    }
    missing = {f"{row['name']}, {row['model']}": row["reason"] for row in content["missing"]}
    columns = [("Machine", machine), ("Versions", content["versions"])]
    columns += [("Left out", missing)] if missing else []
    tables = "".join(table(*column) for column in columns)
    command = f"<p><code>{escape(content['command'])}</code></p>"
    return f'<section><h2>Machine</h2>{command}<div class="columns">{tables}</div></section>'
