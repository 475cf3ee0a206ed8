from __future__ import annotations

import json

import pytest
from benchmarking.training import measure
from benchmarking.workers.training_backends import BACKENDS

from scripts import benchmark


@pytest.mark.slow
def test_train_measures_time_and_memory_of_each_setting(tmp_path, capsys):
    files = [tmp_path / "train.json", tmp_path / "train.html"]
    arguments = ["train", "densenet40_k12_cifar10", "--batch", "8", "--size", "32"]
    arguments += ["--rounds", "1", "--threads", "1", "--only", "plain", "most"]
    arguments += ["--json", str(files[0]), "--html", str(files[1])]
    assert benchmark.main(arguments) == 0
    plain, most = json.loads(files[0].read_text())["rows"]
    assert (plain["name"], most["name"]) == ("plain", "most")
    assert (plain["ratio"], plain["share"], plain["planned"]) == (1, 1, 0)
    assert most["share"] < 0.8
    assert most["planned"] > 0
    assert plain["ms"] > 0
    assert "densenet40_k12_cifar10, batch 8" in files[1].read_text()
    assert "| most |" in capsys.readouterr().out


def test_an_unknown_backend_is_one_line(capsys):
    assert benchmark.main(["train", "densenet121", "--only", "torsh"]) == 2
    assert "error: unknown backend 'torsh'; did you mean 'torch'" in capsys.readouterr().err


def test_a_missing_module_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match=r"no backend can run densenet121: \w+ is not installed"):
        list(measure(["densenet121"], [1]))
    assert {"plain", "most", "torch"} <= set(BACKENDS)
