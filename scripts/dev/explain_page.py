# SPDX-License-Identifier: Apache-2.0
"""Update the computed tables in docs/explain.md: the gradient flow of small networks."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tabulate import tabulate

from gluondense.commands.explain.gradients import of_fusions
from gluondense.commands.parser import Parser
from gluondense.explain import GradientFlow

# The text between such comments and the next one is computed.
COMPUTED = re.compile(r"(<!-- computed: (\w+) -->\n\n).*?(?=\n\n<!-- end -->)", re.DOTALL)


def explain_page(page: str) -> str:
    """Return the page with everything that is computed brought up to date."""
    flows = of_fusions("stage1")
    texts = {"sets": _sets(flows), "shares": _shares(flows)}
    return COMPUTED.sub(lambda found: found[1] + texts[found[2]], page)


def _sets(flows: dict[str, GradientFlow]) -> str:
    """Return a table with the gradients that come through each layer of each network."""
    readers = list(dict.fromkeys(reader for flow in flows.values() for reader in flow.readers))
    readers.sort(key=lambda reader: not reader.startswith("w"))
    rows = [
        {
            "weights": reader,
            **{
                name: ", ".join(flow.set_of(reader)) if reader in flow.readers else "–"
                for name, flow in flows.items()
            },
        }
        for reader in readers
    ]
    return tabulate(rows, headers="keys", tablefmt="pipe")


def _shares(flows: dict[str, GradientFlow]) -> str:
    """Return a table for each network with the shares of the layers in each gradient."""
    parts = []
    for name, flow in flows.items():
        rows = [
            [reader, *("0" if norm == 0 else f"{share:.0%}" for norm, share in zip(*row))]
            for reader, row in zip(flow.readers, zip(flow.norms, flow.shares))
        ]
        head = ["through", *flow.gradients]
        align = ["left", *["right"] * len(flow.sources)]
        table = tabulate(rows, head, tablefmt="pipe", colalign=align, disable_numparse=True)
        parts.append(f"{name}:\n\n{table}")
    return "\n\n".join(parts)


def main(argv: list[str] | None = None) -> int:
    """Update the page in place."""
    parser = Parser(description=__doc__)
    parser.add_argument("file", type=Path)
    file = parser.parse_args(argv).file
    file.write_text(explain_page(file.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
