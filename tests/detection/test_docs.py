"""What docs/detectors.md shows is what the tables say."""

from __future__ import annotations

import pytest
from support.paths import ROOT

import gluondense

PAGE = ROOT / "docs" / "detectors.md"


@pytest.mark.parametrize("attention", [None, "sam"])
@pytest.mark.parametrize("fusion", ["fpn", "gfm", "efm"])
def test_the_table_of_costs_is_current(fusion, attention):
    name = f"yolo3_{fusion}_csp_peleenet_voc"
    cost = gluondense.summary(name, width=0.5, attention=attention)
    label = f"| `{fusion}`, {'SAM' if attention else 'without SAM'} "
    row = f"{label}| {cost.params:,} | {cost.macs / 1e6:,.0f} | {cost.cio / 1e6:,.1f} |"
    assert row in PAGE.read_text(encoding="utf-8")
