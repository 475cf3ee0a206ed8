"""The command of experiments, with the smallest networks."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import statistics
import subprocess
import sys
import time

import pytest
from faults.commands import run_results
from support.training_tiny import TINY

from gluondense.__main__ import main
from gluondense.commands.experiment import _configure
from gluondense.experiment.plan import read_plan
from gluondense.experiment.results import check_unchanged, is_complete
from gluondense.training import fit
from gluondense.training.run_folder import RunFolder

FIELDS = {"stem": "cifar", "num_init_features": 8, "growth_rate": 4, "block_config": [1, 1]}
SET = " ".join(f"--set '{name}={json.dumps(value)}'" for name, value in FIELDS.items())
TRAIN = (
    f"fashion-mnist --dataset synthetic --model densenet121 {SET} --resize 8 --batch-size 24 "
    "--lr 0.05 --no-progress --no-native"
)


def write_table(path, *rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("name", "seeds", "arguments"), *rows])
    return str(path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folders of two complete runs and of one that has stopped early."""
    folder = tmp_path_factory.mktemp("experiment")
    for seed in (1, 2):
        fit(TINY.with_fields(seed=seed), folder / f"tiny-seed{seed}", progress=False)
    for path in ("config.json", "log.csv"):
        (folder / "tiny-seed3").mkdir(exist_ok=True)
        text = (folder / "tiny-seed1" / path).read_text()
        (folder / "tiny-seed3" / path).write_text(text.replace('"epochs": 2', '"epochs": 9'))
    return folder


def test_results_are_of_the_last_epoch_of_the_complete_runs(trained, tmp_path, capsys):
    table = write_table(tmp_path / "t.csv", ("tiny", "1 2 3", TRAIN), ("missing", "1", TRAIN))
    assert main(["experiment", table, "--out", str(trained), "--gather"]) == 0
    with open(trained / "results.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    last = []
    for seed in (1, 2):
        with open(trained / f"tiny-seed{seed}" / "log.csv", encoding="utf-8") as file:
            last.append(float(list(csv.DictReader(file))[-1]["test_acc"]))
    assert [(row["name"], row["seed"]) for row in rows] == [("tiny", "1"), ("tiny", "2")]
    assert [float(row["value"]) for row in rows] == pytest.approx(last, rel=1e-5)
    page = (trained / "results.html").read_text(encoding="utf-8")
    assert "2 of 4 runs are complete" in page
    assert f"accuracy {statistics.fmean(last):.2%}" in page
    assert f"± {statistics.stdev(last):.2%}" in page
    assert 'href="tiny-seed1/report.html"' in page
    assert "results.html" in capsys.readouterr().out


def test_a_complete_run_with_other_arguments_is_refused(trained, tmp_path, capsys):
    rows = ("tiny", "1", f"{TRAIN} --epochs 2"), ("tiny", "1", f"{TRAIN} --epochs 2 --momentum 0.5")
    tables = [write_table(tmp_path / f"{n}.csv", row) for n, row in enumerate(rows)]
    (run,) = read_plan(tables[0])
    config = _configure(run, (), tables[0])
    RunFolder(tmp_path / run.folder).start(config)
    shutil.copy(trained / "tiny-seed1" / "log.csv", tmp_path / run.folder)
    assert is_complete(run, tmp_path)
    check_unchanged(run, config, tmp_path)
    assert main(["experiment", tables[1], "--out", str(tmp_path)]) == 2
    folder = tmp_path / run.folder
    expected = f"error: {folder} was trained with momentum {config.optimizer.momentum}, not 0.5: "
    error = capsys.readouterr().err
    assert error.startswith(expected)
    assert error.count("\n") == 1


def test_a_published_result_is_beside_that_of_the_same_network():
    from gluondense.experiment.results import published_errors
    from gluondense.models.registry import get_spec

    spec = get_spec("densenet40_k12_cifar10", dropout=0.2)
    found = published_errors("densenet40_k12_cifar10", "cifar10", augmented=True, spec=spec)
    assert [error.top1 for error in found] == [5.24]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("cifarr", "unknown training command 'cifarr'; did you mean 'cifar'?"),
        ("cifar --recipe c11", "row a: argument --recipe: invalid choice: 'c11'"),
        ("cifar --model nonet", "row a: unknown model 'nonet'"),
        ("cifar --epochs 0", "row a: --epochs (=0)"),
    ],
)
def test_all_rows_are_checked_before_the_first_training(tmp_path, capsys, arguments, message):
    table = write_table(tmp_path / "t.csv", ("good", "1", TRAIN), ("a", "1", arguments))
    assert main(["experiment", table, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_shared_arguments_cannot_set_what_the_experiment_sets(tmp_path, capsys):
    table = write_table(tmp_path / "t.csv", ("a", "1", TRAIN))
    assert main(["experiment", table, "--", "--seed", "3"]) == 2
    assert capsys.readouterr().err == "error: --seed is set by the experiment: leave it out\n"


@pytest.mark.slow
def test_a_stopped_experiment_continues_to_the_same_results(tmp_path):
    rows = ("a", "1 2", TRAIN), ("b", "1", f"{TRAIN} --set bn_size=0")
    table = write_table(tmp_path / "t.csv", *rows)
    argv = [sys.executable, "-m", "gluondense", "experiment", table, "--out"]
    shared = ["--", "--epochs", "3", "--save-steps", "3"]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    subprocess.run([*argv, str(whole), *shared], check=True)
    with subprocess.Popen([*argv, str(stopped), *shared]) as process:
        while not (stopped / "b-seed1" / "checkpoints" / "last").exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 128 + signal.SIGTERM
    subprocess.run([*argv, str(stopped), *shared], check=True)
    for name in ("a-seed1", "a-seed2", "b-seed1"):
        assert run_results(stopped / name) == run_results(whole / name)


@pytest.mark.slow
def test_a_failed_run_does_not_end_the_others(tmp_path, capfd):
    missing = TRAIN.replace("synthetic", f"fashion_mnist --no-download --data-dir {tmp_path}/none")
    table = write_table(tmp_path / "t.csv", ("bad", "1", missing), ("good", "1", TRAIN))
    out = tmp_path / "out"
    assert main(["experiment", table, "--out", str(out), "--", "--epochs", "1"]) == 2
    assert "1 of 2 runs failed: bad-seed1" in capfd.readouterr().err
    assert (out / "good-seed1" / "report.html").exists()
    assert "1 of 2 runs are complete" in (out / "results.html").read_text(encoding="utf-8")
