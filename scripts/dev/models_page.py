# SPDX-License-Identifier: Apache-2.0
"""Update the computed tables in the documentation's page of all networks, docs/models.md.

The rest of the page, such as the results of papers and repositories, is edited by hand.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tabulate import tabulate

import gluondense
from gluondense.analysis.comparison import table
from gluondense.analysis.costs import Summary
from gluondense.commands.parser import Parser
from gluondense.models import (
    SPECS,
    NetworkSpec,
    csp_densenet,
    csp_resnet,
    darknet,
    densenet,
    dpn,
    peleenet,
    rdnet,
)

# The text between such comments and the next one is computed.
COMPUTED = re.compile(r"(<!-- computed: (\w+) -->\n\n).*?(?=\n\n<!-- end -->)", re.DOTALL)


def models_page(page: str) -> str:
    """Return the page with everything that is computed brought up to date."""
    costs: dict[NetworkSpec, Summary] = {}  # equal rows are counted once
    for name, spec in SPECS.items():
        if spec not in costs:
            costs[spec] = gluondense.summary(name)
    cifar = [name for name, spec in densenet.SPECS.items() if spec.stem == "cifar"]
    listing = [name for name in csp_densenet.SPECS if name.endswith("_listing")]
    plain = [name for name in densenet.SPECS if name not in (*cifar, "densenet_tutorial")]
    csp = [name for name in csp_densenet.SPECS if name not in listing]
    texts = {
        "densenet": _table(costs, plain),
        "cifar": _table(costs, cifar),
        "tutorial": _table(costs, ["densenet_tutorial"]),
        "csp": _table(costs, csp),
        "csp_listing": _table(costs, listing),
        "csp_resnet": _table(costs, csp_resnet.SPECS),
        "darknet": _table(costs, darknet.SPECS),
        "peleenet": _table(costs, peleenet.SPECS),
        "dpn": _table(costs, dpn.SPECS),
        "rdnet": _table(costs, rdnet.SPECS),
        "fusions": _fusions(costs, csp),
        "densenet_deviations": _deviations(densenet.DenseNet),
        "csp_resnet_deviations": _deviations(csp_resnet.CSPResNet),
        "darknet_deviations": _deviations(darknet.Darknet),
        "peleenet_deviations": _deviations(peleenet.PeleeNet),
        "dpn_deviations": _deviations(dpn.DPN),
        "csp_definition": _definition(csp_densenet),
        "peleenet_definition": _definition(peleenet),
    }
    return COMPUTED.sub(lambda found: found[1] + texts[found[2]], page)


def _table(costs: dict[NetworkSpec, Summary], names: Iterable[str]) -> str:
    return table([dataclasses.replace(costs[SPECS[name]], model=name) for name in names], "pipe")


def _fusions(costs: dict[NetworkSpec, Summary], names: Iterable[str]) -> str:
    rows = []
    for name in names:
        whole = costs[SPECS[name.replace("csp_", "")]]
        row = {"network": name, "without CSP": _cell(whole)}
        for fusion in csp_densenet.FUSIONS:
            spec = gluondense.get_spec(name, fusion=fusion)
            cost = costs.get(spec) or gluondense.summary(name, fusion=fusion)
            row[fusion] = f"{_cell(cost)} ({cost.macs / whole.macs - 1:+.1%})"
        rows.append(row)
    return tabulate(rows, headers="keys", tablefmt="pipe", disable_numparse=True)


def _cell(cost: Summary) -> str:
    return f"{cost.params / 1e6:.2f} / {cost.macs / 1e6:,.1f}"


def _definition(family: Any) -> str:
    """Return the docstring of a family's module."""
    return f"```text\n{inspect.getdoc(family)}\n```"


def _deviations(network: Any) -> str:
    """Return the paragraph on deviations of the network's docstring."""
    paragraphs = inspect.getdoc(network).split("\n\n")
    (found,) = [text for text in paragraphs if text.startswith("Deviations")]
    return found.replace("``", "`")


def main(argv: list[str] | None = None) -> int:
    """Update the page in place."""
    parser = Parser(description=__doc__)
    parser.add_argument("file", type=Path)
    file = parser.parse_args(argv).file
    file.write_text(models_page(file.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
