"""The race: candidates in processes of their own, which give the same logits and take turns."""

from __future__ import annotations

import json
import os
import re
import sys

import pytest

import gluondense
from gluondense.benchmark import CANDIDATES, available, race
from gluondense.benchmark.prepare import prepare
from scripts import benchmark

MODEL = "densenet_tutorial"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The tutorial's network, in what MXNet reads."""
    folder = tmp_path_factory.mktemp("race")
    prepare(MODEL, folder, 64)
    return folder


@pytest.fixture(autouse=True)
def plain_mxnet(monkeypatch):
    """Workers import MXNet without gluondense, so NumPy must be one that it knows."""
    import numpy

    if numpy.lib.NumpyVersion(numpy.__version__) >= "1.24.0":
        pytest.skip("plain MXNet needs NumPy below 1.24")
    monkeypatch.setenv("PYTHONPATH", "")


def test_both_targets_take_turns(folder):
    laps = race(folder, ["onednn", "portable"], batch=2, size=64, channels=1, threads=1, rounds=2)
    assert [lap.name for lap in laps] == ["onednn", "portable"]
    for lap in laps:
        assert len(lap.times) >= 2
        assert 0 < min(lap.times) <= 2 * lap.median_ms / 1e3 <= max(lap.times)
        low, high = lap.spread_ms
        assert low <= lap.median_ms <= high
        assert lap.first_s > max(lap.times)
        assert 20 < lap.rss_mb < 4000


def test_what_cannot_run_the_network_is_left_out(folder):
    assert "mxnet zoo" not in available(folder)  # it has no such network
    assert {"onednn", "portable"} <= set(available(folder)) <= set(CANDIDATES)


def test_other_logits_stop_the_race(folder, tmp_path):
    other = prepare(MODEL, tmp_path, 64)
    other.output.bias.set_data(other.output.bias.data() + 1)
    gluondense.export(other, tmp_path / "onednn", (1, 1, 64, 64), "onednn")
    with pytest.raises(RuntimeError, match="onednn gives other logits than portable"):
        race(tmp_path, ["portable", "onednn"], 1, 64, 1, 1, 1)


def test_a_candidate_that_stops_is_named(tmp_path):
    with pytest.raises(RuntimeError, match=r"portable stopped: .*portable-symbol.json"):
        race(tmp_path, ["portable"], 1, 64, 1, 1, 1)


def test_no_worker_is_left(folder):
    race(folder, ["portable"], 1, 64, 1, 1, 1)
    children = [
        pid
        for pid in filter(str.isdigit, os.listdir("/proc"))
        if b"benchmark/worker.py" in read(f"/proc/{pid}/cmdline")
        and f"\nPPid:\t{os.getpid()}\n".encode() in read(f"/proc/{pid}/status")
    ]
    assert children == []


def read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def test_workers_do_not_import_gluondense(folder):
    """Else the time to the first prediction would be ours."""
    source = (gluondense.benchmark.race.__globals__["WORKER"]).read_text()
    assert not re.search(r"^\s*(from|import) gluondense", source, re.MULTILINE)


def test_the_script_prints_a_table_and_writes_the_numbers(tmp_path, capsys):
    file = tmp_path / "race.json"
    options = ["--batch", "1", "--size", "64", "--threads", "1", "--rounds", "1"]
    only = ["--only", "onednn", "portable", "--json", str(file)]
    assert benchmark.main([MODEL, *options, *only]) == 0
    out = capsys.readouterr().out
    assert "densenet_tutorial, 64x64, batch 1, 1 threads" in out
    assert re.search(r"onednn +1\.00 ", out)
    content = json.loads(file.read_text())
    assert [row["name"] for row in content["rows"]] == ["onednn", "portable"]
    assert content["rows"][0]["ratio"] == 1
    assert content["versions"]["python"] == sys.version.split()[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["densenet1211"], "did you mean"),
        ([MODEL, "--size", "64", "--only", "tensorrt"], "tensorrt cannot run here: choose of"),
        ([MODEL, "--size", "8"], "needs images of at least"),
    ],
)
def test_a_mistake_gets_one_line(capsys, arguments, words):
    assert benchmark.main(arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.startswith("error: ")
