from __future__ import annotations

from mxnet.gluon.model_zoo import vision

from gluondense.analysis.costs import summary
from gluondense.reports.costs import write_costs_page


def test_page_has_all_networks_and_opens_offline(tmp_path):
    costs = [summary("densenet_tutorial"), summary(vision.alexnet(prefix="alexnet_"))]
    write_costs_page(costs, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "densenet_tutorial" in page
    assert "alexnet" in page
    assert "<script src=" not in page
