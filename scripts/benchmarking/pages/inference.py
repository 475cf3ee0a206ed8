# SPDX-License-Identifier: Apache-2.0
"""The HTML page of the inference benchmark."""

from __future__ import annotations

from html import escape
from typing import Any

from gluondense.reports.page import columns, document, plot, section, tiles

from ..roofline import PRECISIONS, roofline_ms
from .figures import latency_figure, memory_figure, ratio_figure, start_figure, throughput_figure
from .tables import missing

Row = dict[str, Any]
Content = dict[str, Any]


def page(content: Content) -> str:
    """Return the page.

    Parameters
    ----------
    content
        The content of a JSON file of the benchmark.
    """
    models = list(dict.fromkeys(row["model"] for row in content["rows"]))
    machine = content["machine"]
    subtitle = (
        f"{content['date']} · {content['threads']} threads · {machine['cpu']}, "
        f"{machine['cores']} cores · medians and quartiles of interleaved backends"
    )
    sections = "".join(_model(content, model) for model in models)
    return document("Inference performance", subtitle, sections + _about(content))


def _model(content: Content, model: str) -> str:
    rows = [row for row in content["rows"] if row["model"] == model]
    size, batch = rows[0]["size"], rows[0]["batch"]
    of_size = [row for row in rows if row["size"] == size]
    of_batch = [row for row in rows if row["batch"] == batch]
    first = [row for row in of_size if row["batch"] == batch]
    speeds = [row for row in content["throughput"] if row["model"] == model]
    charts = {
        "Latency against the batch": _many(of_size, "batch") and latency_figure(of_size, "batch"),
        "Latency against the image": _many(of_batch, "size") and latency_figure(of_batch, "size"),
        "Throughput": speeds and throughput_figure(speeds),
        "Memory": memory_figure(first),
        "Start": start_figure(first),
    }
    ratios = "<p>There is no peer to compare with.</p>"
    if any(row["to_best_peer"] for row in of_size):
        ratios = f"<p>Below 1 is faster than the best peer.</p>{plot(ratio_figure(of_size))}"
    return (
        tiles(_tiles(content, model, first))
        + section(escape(f"{model}, {size}x{size}"), ratios)
        + _pairs([section(title, plot(figure)) for title, figure in charts.items() if figure])
    )


def _pairs(sections: list[str]) -> str:
    """Put sections side by side; the last of an odd number gets the full width."""
    even = len(sections) // 2 * 2
    return f'<div class="pair">{"".join(sections[:even])}</div>{"".join(sections[even:])}'


def _many(rows: list[Row], key: str) -> bool:
    return len({row[key] for row in rows}) > 1


def _tiles(content: Content, model: str, rows: list[Row]) -> list[tuple[str, str]]:
    found = []
    for precision in dict.fromkeys(row["precision"] for row in rows):
        ours = [row for row in rows if row["precision"] == precision and row["ours"]]
        best = min(ours, key=lambda row: row["median_ms"], default=None)
        if best and best["to_best_peer"]:
            peer = best["to_best_peer"]
            what = (
                f"{precision}: {best['name']}'s time over {peer['name']}'s, batch {best['batch']}"
            )
            found.append((f"{peer['ratio']:.2f}", what))
            found.append((f"{best['median_ms']:.1f} ms", f"{precision}: {best['name']}, an image"))
    for row in content.get("costs", []):
        if row["model"] == model:
            bounds = [max(roofline_ms(row, content["peaks"], kind)) for kind in PRECISIONS]
            values = " · ".join(f"{value:.1f}" for value in bounds)
            found.append((f"{values} ms", f"roofline of this CPU, {' · '.join(PRECISIONS)}"))
    return found


def _about(content: Content) -> str:
    machine = {
        name.replace("_", " "): ", ".join(f"{k} {v}" for k, v in value.items())
        if isinstance(value, dict)
        else value
        for name, value in content["machine"].items()
    }
    tables = columns({"Machine": machine, "Versions": content["versions"]})
    absent = "".join(
        f"<p><b>{escape(name)}</b>: {escape(reason)}</p>"
        for name, reason in missing(content).items()
    )
    command = f"<p><code>{escape(content['command'])}</code></p>"
    omitted = section("Left out", absent) if absent else ""
    return omitted + section("Machine and command", command + tables)
