"""The table of the serving benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

from ..serving import PERCENTILES


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return a Markdown table: requests per second, ratio to the last server, latencies."""
    head = [
        "",
        "",
        "requests/s",
        "to the last",
        *(f"{percent} %, ms" for percent in PERCENTILES),
        "failed",
    ]
    cells = [
        [
            row["server"],
            row["target"],
            f"{row['rate']:.1f} ({min(row['rates']):.1f} – {max(row['rates']):.1f})",
            f"{row['ratio']:.2f}",
            *(f"{row[f'p{percent}']:.0f}" for percent in PERCENTILES),
            row["failures"],
        ]
        for row in rows
    ]
    return tabulate(cells, head, tablefmt="github", disable_numparse=True)
