# SPDX-License-Identifier: Apache-2.0
"""Tables of the inference benchmark, for the terminal and for Markdown pages."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tabulate import tabulate

from ..roofline import PRECISIONS, roofline_ms

Row = dict[str, Any]
Content = dict[str, Any]
BOUNDS = ("adds", "bytes")


def _groups(rows: Iterable[Row], *keys: str) -> Iterator[tuple[list[Any], list[Row]]]:
    """Yield the values of the keys, and the adjacent rows that share them."""
    for values, group in itertools.groupby(rows, lambda row: [row[key] for key in keys]):
        yield values, list(group)


def cases_text(rows: Sequence[Row], threads: int) -> str:
    """Return a plain-text table for each case."""
    tables = []
    for (model, size, batch), group in _groups(rows, "model", "size", "batch"):
        lines = []
        for row in group:
            ratios = _ratio(row["to_best_peer"]), _ratio(row["to_reference"])
            times = row["median_ms"], "{:.1f} - {:.1f}".format(*row["quartiles_ms"])
            start = row["first_s"], row["rss_mb"]
            lines.append([row["name"], row["precision"], *ratios, *times, *start])
        reference = next((r["to_reference"]["name"] for r in group if r["to_reference"]), "")
        heads = ["", "", "best peer", reference, "ms an image", "quartiles", "first, s", "MB"]
        form = ("", "", "", "", ".1f", "", ".1f", ".0f")
        table = tabulate(lines, heads, floatfmt=form, disable_numparse=[2, 3])
        tables.append(f"{model}, {size}x{size}, batch {batch}, {threads} threads\n{table}\n")
    return "\n".join(tables)


def _ratio(found: Row | None, form: str = "{:.2f}x") -> str:
    return form.format(found["ratio"]) if found else ""


def rest_text(content: Content) -> str:
    """Return the other results as plain text: ratios of networks, throughput, roofline, missing."""
    parts = [tabulate(lines, heads) + "\n" for heads, lines in _between(content)]
    if content["throughput"]:
        heads, lines = _throughput(content)
        parts.append("Images a second of processes with one thread each\n")
        parts.append(tabulate(lines, heads, floatfmt=".1f") + "\n")
    if "peaks" in content:
        heads, lines = _roofline(content)
        parts += [tabulate(lines, heads, floatfmt=".1f"), _peaks(content) + "\n"]
    parts += [f"without {name}: {reason}" for name, reason in missing(content).items()]
    return "\n".join(parts)


def missing(content: Content) -> dict[str, str]:
    """Return the reasons for missing results, by backend, model and case."""
    return {
        f"{row['name']} ({', '.join(filter(None, (row['model'], row['case'])))})": row["reason"]
        for row in content["missing"]
    }


def _between(content: Content) -> Iterator[tuple[list[str], list[list[Any]]]]:
    """Yield a table for each pair of networks that were measured in the same rounds."""
    for (model, other), group in _groups(content.get("between", []), "model", "to"):
        lines = []
        for row in group:
            quartiles = "{:.2f} - {:.2f}".format(*row["quartiles"])
            lines.append([row["name"], row["size"], row["batch"], _ratio(row), quartiles])
        yield [f"{model} over {other}", "size", "batch", "time", "quartiles"], lines


def _throughput(content: Content) -> tuple[list[str], list[list[Any]]]:
    rows = content["throughput"]
    counts = sorted({row["workers"] for row in rows})
    found = {(row["model"], row["name"], row["workers"]): row for row in rows}
    heads = ["", "", ""]
    for count in counts:
        heads += [f"{count} process{'es' * (count > 1)}: best peer", "images/s"]
    lines = []
    for model, name in dict.fromkeys((model, name) for model, name, _ in found):
        line, precision = [], ""
        for cell in (found.get((model, name, count)) for count in counts):
            ratio, speed = (cell["to_best_peer"], cell["images_per_s"]) if cell else (None, None)
            line += [ratio and f"{ratio:.2f}x", speed]
            precision = cell["precision"] if cell else precision
        lines.append([model, name, precision, *line])
    return heads, lines


def _roofline(content: Content) -> tuple[list[str], list[list[Any]]]:
    heads = ["roofline", "M multiply-adds", *(f"{p}: {k}, ms" for p in PRECISIONS for k in BOUNDS)]
    lines = []
    for row in content["costs"]:
        times = [roofline_ms(row, content["peaks"], precision) for precision in PRECISIONS]
        lines.append([row["model"], row["macs"] / 1e6, *itertools.chain(*times)])
    return heads, lines


def _peaks(content: Content) -> str:
    peaks = content["peaks"]
    speeds = []
    for kind in PRECISIONS:
        library, speed = max(peaks[kind].items(), key=lambda item: item[1])
        speeds.append(f"{kind} {speed:.1f} G multiply-adds a second ({library})")
    return (
        f"Peaks with {content['threads']} threads: of matrix products {', '.join(speeds)}; "
        f"of copying {peaks['copy']:.1f} GB/s, read and written."
    )


def about(content: Content) -> str:
    """Return a paragraph on the machine and the versions."""
    machine = content["machine"]
    caches = ", ".join(f"{name} {size}" for name, size in machine["caches"].items())
    versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    return (
        f"Measured on {content['date']} with {content['threads']} threads on {machine['cpu']} "
        f"(family {machine['family']}; {', '.join(machine['flags'])}; {caches}), "
        f"{machine['cores']} cores, {machine['memory_gb']} GB, {machine['system']}. {versions}."
    )


def markdown(content: Content) -> str:
    """Return Markdown tables: one for each model and size, ratios first."""
    parts = [f"```sh\n{content['command']}\n```\n", about(content) + "\n"]
    for (model, size), group in _groups(content["rows"], "model", "size"):
        parts += [f"**{model}, {size}x{size}**\n", _model_table(group)]
    parts += [_github(heads, lines) for heads, lines in _between(content)]
    if content["throughput"]:
        heads, lines = _throughput(content)
        parts += ["**Images a second** of processes with one thread each\n", _github(heads, lines)]
    if "peaks" in content:
        heads, lines = _roofline(content)
        parts += ["**Roofline**\n", _github(heads, lines), _peaks(content) + "\n"]
    return "\n".join(parts)


def _model_table(rows: list[Row]) -> str:
    batches = list(dict.fromkeys(row["batch"] for row in rows))
    found = {(row["name"], row["batch"]): row for row in rows}
    lines = []
    for name in dict.fromkeys(row["name"] for row in rows):
        first = next(row for row in rows if row["name"] == name)
        cells = [_cell(found.get((name, batch))) for batch in batches]
        start = [f"{first['first_s']:.1f}", f"{first['rss_mb']:.0f}"]
        lines.append([f"**{name}**" if first["ours"] else name, first["precision"], *cells, *start])
    heads = ["", "", *(f"batch {batch}: to best peer, ms" for batch in batches), "first, s", "MB"]
    return _github(heads, lines)


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    times = "{:.1f} ({:.1f} – {:.1f})".format(row["median_ms"], *row["quartiles_ms"])
    return " ".join(filter(None, (_ratio(row["to_best_peer"], "**{:.2f}**"), times)))


def _github(heads: list[str], lines: list[list[Any]]) -> str:
    return tabulate(lines, heads, "github", floatfmt=".1f") + "\n"
