from __future__ import annotations

from mxnet.gluon.model_zoo import vision

from gluondense.analysis.costs import summary
from gluondense.models import SPECS
from gluondense.reports.costs import FAMILIES, PARTS, write_costs_page


def test_page_has_all_networks_and_opens_offline(tmp_path):
    costs = [summary("densenet_tutorial"), summary(vision.alexnet(prefix="alexnet_"))]
    write_costs_page(costs, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "densenet_tutorial" in page
    assert "alexnet" in page
    assert "<script src=" not in page


def test_every_family_and_stage_has_a_color():
    assert all(name.startswith(tuple(filter(None, FAMILIES))) for name in SPECS)
    stages = max(len(getattr(spec, "num_blocks", ())) for spec in SPECS.values())
    assert {f"stage{number}" for number in range(1, stages + 1)} <= PARTS.keys()
