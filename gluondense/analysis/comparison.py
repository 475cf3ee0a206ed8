# SPDX-License-Identifier: Apache-2.0
"""Tables that compare the costs of networks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any

from tabulate import tabulate

from .costs import Summary

# Heading -> its text for a network.
COLUMNS = {
    "network": lambda cost: cost.model,
    "input": lambda cost: "x".join(map(str, cost.input_shape)),
    "parameters": lambda cost: f"{cost.params:,}",
    "MACs (M)": lambda cost: f"{cost.macs / 1e6:,.2f}",
    "activations (M)": lambda cost: f"{cost.activations / 1e6:,.2f}",
    "memory (MB)": lambda cost: f"{cost.memory / 1e6:,.1f}",
    "CIO (M)": lambda cost: f"{cost.cio / 1e6:,.2f}",
    "CIO by formula": lambda cost: f"{cost.formula_cio:,}" if cost.block_cio else "–",
    "stage widths": lambda cost: "/".join(map(str, stage_widths(cost))),
}
# Heading -> the field of a layer.
LAYER_COLUMNS = {
    "layer": "name",
    "operator": "op",
    "output": "output_shape",
    "parameters": "params",
    "MACs": "macs",
    "activations": "activations",
    "memory (bytes)": "memory",
    "CIO": "cio",
}
TOTALS = ("params", "macs", "activations", "memory", "cio", "formula_cio")


def stage_widths(cost: Summary) -> list[int]:
    """Return the number of channels after each stage of a network of gluondense.

    Examples
    --------
    >>> from gluondense import summary
    >>> stage_widths(summary("dpn92"))
    [336, 704, 1552, 2688]
    """
    maps = [layer for layer in cost.layers if len(layer.output_shape) > 1]
    last = {network_part(layer.name): layer.output_shape[1] for layer in maps}
    return [width for part, width in last.items() if part.startswith("stage")]


def records(costs: Iterable[Summary], per_layer: bool = False) -> list[dict[str, Any]]:
    """Return dictionaries for CSV and JSON, one per network or one per layer of each network.

    Examples
    --------
    >>> from gluondense import summary
    >>> records([summary("densenet_tutorial")])[0]["params"]
    758226
    """
    found: list[dict[str, Any]] = []
    for cost in costs:
        head = {"model": cost.model, "input_shape": "x".join(map(str, cost.input_shape))}
        if per_layer:
            found += [{**head, **dataclasses.asdict(layer)} for layer in cost.layers]
        else:
            found.append({**head, **{total: getattr(cost, total) for total in TOTALS}})
    return found


def table(costs: Sequence[Summary], style: str = "simple", per_layer: bool = False) -> str:
    """Return a table with one row per network, or one table per network with a row per layer.

    ``style`` is a table format of tabulate: ``"simple"`` for the terminal, ``"pipe"`` for Markdown.

    Examples
    --------
    >>> from gluondense import summary
    >>> print(table([summary("dpn68")]).splitlines()[2])
    dpn68      1x3x224x224    12,611,602    2,326.16              10.47          177.3 ...
    """
    if per_layer:
        columns = {heading: attrgetter(field) for heading, field in LAYER_COLUMNS.items()}
        return "\n\n".join(
            f"{cost}\n\n{_tabulate(columns, cost.layers, 3, style)}" for cost in costs
        )
    shown = {**COLUMNS}
    if not any(map(stage_widths, costs)):
        del shown["stage widths"]
    if not any(cost.block_cio for cost in costs):
        del shown["CIO by formula"]
    return _tabulate(shown, costs, 2, style)


def _tabulate(columns: dict[str, Any], items: Iterable[Any], texts: int, style: str) -> str:
    """Return a table whose first ``texts`` columns are left-aligned text."""
    align = [
        "right" if texts <= i < len(columns) and name != "stage widths" else "left"
        for i, name in enumerate(columns)
    ]
    rows = [[_text(get(item)) for get in columns.values()] for item in items]
    return tabulate(rows, list(columns), tablefmt=style, colalign=align, disable_numparse=True)


def network_part(layer: str) -> str:
    """Return the part of the network that a layer is in.

    Examples
    --------
    >>> network_part("features.stage1.layer3.conv1")
    'stage1'
    """
    return layer.split(".")[1 if layer.startswith("features.") else 0]


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else value
