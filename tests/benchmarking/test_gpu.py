"""The GPU benchmark, on the CPU."""

from __future__ import annotations

import json

import pytest
from benchmarking.gpu import text
from benchmarking.workers.gpu_backends import BACKENDS

from scripts import benchmark


@pytest.mark.parametrize("words", [["--gpu", "densenet121"], ["train", "densenet121", "--gpu"]])
def test_without_a_gpu_it_is_one_line(words, capsys, monkeypatch):
    monkeypatch.setattr("benchmarking.gpu.gpu_problem", lambda: "MXNet finds no GPUs")
    assert benchmark.main(words) == 2
    assert capsys.readouterr().err == "error: no GPU to measure on: MXNet finds no GPUs.\n"


def test_an_unknown_backend_is_one_line(capsys):
    assert benchmark.main(["gpu", "densenet121", "--cpu", "--only", "torsh"]) == 2
    assert "error: unknown backend 'torsh'; did you mean 'torch'" in capsys.readouterr().err


def test_rows_without_a_base_have_no_ratio():
    row = dict.fromkeys(("kind", "model", "name"), "x")
    row |= dict.fromkeys(("batch", "size", "ms", "images/s", "MB"), 1.0)
    assert text([{**row, "ratio": None}]).splitlines()[-1].endswith("| 1.00 | 1 | - | 1 |")


@pytest.mark.slow
def test_both_kinds_are_measured(tmp_path, capsys):
    file = tmp_path / "gpu.json"
    words = ["--gpu", "densenet121", "--cpu", "--batch", "2", "--size", "64", "--rounds", "1"]
    words += ["--threads", "1", "--json", str(file), "--only", "mxnet", "mxnet-fp16"]
    assert benchmark.main(words) == 0
    content = json.loads(file.read_text())
    rows = {(row["kind"], row["name"]): row for row in content["rows"]}
    assert {("inference", "mxnet"), ("training", "mxnet")} <= set(rows)
    assert rows["training", "mxnet"]["ratio"] == 1
    assert rows["training", "mxnet"]["ms"] > rows["inference", "mxnet"]["ms"] > 0
    reasons = {(row["kind"], row["name"]): row["reason"] for row in content["missing"]}
    assert "float16" in reasons["training", "mxnet-fp16"]
    assert set(rows) | set(reasons) == {
        (kind, name) for kind in BACKENDS for name in ("mxnet", "mxnet-fp16")
    }
    assert "inference without mxnet-fp16" in capsys.readouterr().out
