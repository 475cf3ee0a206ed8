# SPDX-License-Identifier: Apache-2.0
"""Draw the figures and charts of the docs from the tables and results: ``docs/assets/**/*.svg``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from dev.figures.bars import draw_bars
from dev.figures.benchmarks import CHARTS
from dev.figures.blocks import BLOCKS, OVERVIEW
from dev.figures.curves import CURVES, draw_curves
from dev.figures.diagram import draw_diagram, draw_row
from dev.figures.heatmaps import feature_reuse, gradient_flow
from dev.figures.intervals import findings
from dev.figures.necks import draw_neck
from dev.figures.scatter import accuracy_and_cost

from gluondense.detection.necks import NECKS

ASSETS = Path(__file__).parents[2] / "docs" / "assets"
FAMILIES = "How a dense block, a CSP stage and a dual-path block use previous feature maps"


def drawn() -> dict[Path, str]:
    """Return the SVG of each file; README.md names one for each of GitHub's color schemes."""
    diagrams = {**BLOCKS, **OVERVIEW}
    found = {f"figures/{name}": draw_diagram(diagram) for name, diagram in diagrams.items()}
    found |= {f"figures/neck-{name}": draw_neck(name) for name in NECKS}
    found |= {f"figures/gradients-{name}": svg for name, svg in gradient_flow().items()}
    found |= {f"figures/reuse-{name}": svg for name, svg in feature_reuse().items()}
    found["charts/findings"] = findings()
    found["charts/csp"] = accuracy_and_cost("csp")
    found |= {f"charts/{name}": draw_bars(chart()) for name, chart in CHARTS.items()}
    found |= {f"charts/{name}": draw_curves(chart) for name, chart in CURVES.items()}
    found["charts/inference-dark"] = draw_bars(CHARTS["inference"](), dark=True)
    found["figures/families"] = draw_row(OVERVIEW.values(), FAMILIES)
    found["figures/families-dark"] = draw_row(OVERVIEW.values(), FAMILIES, dark=True)
    return {ASSETS / f"{name}.svg": svg for name, svg in found.items()}


def main() -> int:
    """Write the files; return the exit code."""
    for path, svg in drawn().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(svg, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
