# SPDX-License-Identifier: Apache-2.0
"""Draw the figures and charts of the docs from the tables and results: ``docs/assets/**/*.svg``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from dev.figures.bars import draw_bars
from dev.figures.charts import CHARTS
from dev.figures.necks import draw_neck

from gluondense.detection.necks import NECKS

ASSETS = Path(__file__).parents[2] / "docs" / "assets"
# In README.md, which names one file for each of GitHub's color schemes.
ALSO_DARK = ("inference",)


def drawn() -> dict[Path, str]:
    """Return the SVG of each file."""
    found = {ASSETS / "figures" / f"neck-{name}.svg": draw_neck(name) for name in NECKS}
    for name, chart in CHARTS.items():
        found[ASSETS / "charts" / f"{name}.svg"] = draw_bars(chart())
        if name in ALSO_DARK:
            found[ASSETS / "charts" / f"{name}-dark.svg"] = draw_bars(chart(), dark=True)
    return found


def main() -> int:
    """Write the files; return the exit code."""
    for path, svg in drawn().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(svg, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
