"""The tables of docs/benchmarks.md are those of the results in docs/results/benchmarks."""

from __future__ import annotations

import json

import pytest
from dev import benchmark_tables, results
from support.paths import ROOT


def test_the_committed_page_is_current():
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    # `python scripts/dev/benchmark_tables.py docs/benchmarks.md` updates it.
    assert page == benchmark_tables.benchmarks_page(page)
    assert page.count("<!-- computed: ") == page.count("<!-- end -->") == 15


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    return tmp_path


def row(name, ms, precision="fp32", **ratios):
    return {
        "model": "densenet121", "size": 224, "batch": 1, "name": name, "precision": precision,
        "median_ms": ms, **ratios,
    }  # fmt: skip


def write(folder, name, date, *rows):
    (folder / f"{name}.json").write_text(json.dumps({"date": date, "rows": rows}))


def test_the_newest_measurement_beside_openvino_is_taken(folder):
    against = {"to_reference": {"name": "openvino", "ratio": 0.5}}
    write(folder, "z-old", "2026-01-01", row("native", 9.0, **against), row("openvino", 18.0))
    write(folder, "new", "2026-02-01", row("native", 4.0, **against), row("openvino", 8.2))
    write(folder, "alone", "2026-03-01", row("native", 1.0, to_reference=None))
    found = results.inference()["densenet121", 224, 1, "native"]
    assert (found["median_ms"], found["openvino_ms"], found["to_openvino"]) == (4.0, 8.2, 0.5)


def test_a_ratio_is_to_openvino_in_the_same_precision(folder):
    faster = {"to_best_peer": {"name": "onnxruntime-int8", "ratio": 2.0}}
    float32 = {"to_reference": {"name": "openvino", "ratio": 0.1}}
    rows = row("native_int8", 6.0, "int8", **faster, **float32), row("openvino-int8", 4.0, "int8")
    write(folder, "new", "2026-02-01", *rows)
    assert results.inference()["densenet121", 224, 1, "native_int8"]["to_openvino"] == 1.5
