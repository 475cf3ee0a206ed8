"""What docs/detection.md shows is what the tables say."""

from __future__ import annotations

import importlib.util

import pytest
from support.paths import ROOT

import gluondense

PAGE = ROOT / "docs" / "detection.md"


def test_the_figure_of_the_necks_is_current():
    path = ROOT / "scripts" / "dev" / "neck_figure.py"
    spec = importlib.util.spec_from_file_location("neck_figure", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.FIGURE.read_text(encoding="utf-8") == module.draw()
    assert "\n\n" not in module.draw()  # it would end the block of HTML


@pytest.mark.parametrize("attention", [None, "sam"])
@pytest.mark.parametrize("fusion", ["fpn", "gfm", "efm"])
def test_the_table_of_costs_is_current(fusion, attention):
    name = f"yolo3_{fusion}_csp_peleenet_voc"
    cost = gluondense.summary(name, width=0.5, attention=attention)
    label = f"| `{fusion}`, {'SAM' if attention else 'without SAM'} "
    row = f"{label}| {cost.params:,} | {cost.macs / 1e6:,.0f} | {cost.cio / 1e6:,.1f} |"
    assert row in PAGE.read_text(encoding="utf-8")
