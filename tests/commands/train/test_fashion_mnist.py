from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time

import pytest
from support.training_tiny import TINY

from gluondense.training import checkpoint, get_recipe
from gluondense.training.observers.signals import StopOnSignal
from gluondense.training.run_folder import RunFolder

FIELDS = [f"--set={name}={value}" for name, value in TINY.model.args.items()]
FAST = [
    *("--model=densenet121", "--dataset=synthetic", "--resize=8", "--batch-size=40"),
    *(field.replace("(", "[").replace(")", "]") for field in FIELDS),
    "--no-progress",
]


@pytest.fixture
def main(root):
    module = importlib.import_module("gluondense.commands.train.fashion_mnist")
    return module.main


def error_line(capsys):
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


def test_trains_and_resumes(main, tmp_path, capsys):
    out, recipe_fields = str(tmp_path / "run"), get_recipe("demo").model.args
    assert main([*FAST, "--recipe=demo", "--epochs=1", "--out", out]) == 0
    assert "test accuracy" in capsys.readouterr().out
    assert main(["--resume", out, "--epochs=2", "--no-progress"]) == 0
    folder = RunFolder(out)
    assert [row["epoch"] for row in folder.rows()] == [1, 2]
    assert folder.report.stat().st_size > 1e6
    assert folder.config().model.args == {**recipe_fields, **TINY.model.args}
    assert checkpoint.load(out).spec["dropout"] == 0.2
    assert main(["--resume", out, "--no-progress"]) == 0  # nothing left to do


def test_another_model_leaves_the_recipes_fields(main, tmp_path):
    args = ["--model=csp_densenet121", "--dataset=synthetic", "--recipe=demo", "--epochs=1"]
    small = ["--set=block_config=[1,1]", "--set=stem=cifar", "--resize=8", "--batch-size=100"]
    assert main([*args, *small, "--out", str(tmp_path), "--no-progress"]) == 0
    assert RunFolder(tmp_path).config().model.args == {"block_config": (1, 1), "stem": "cifar"}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--model=densnet121"], "did you mean 'densenet121'"),
        (["--set=growth=3"], "has no field 'growth'"),
        (["--set=growth_rate=many"], "growth_rate"),
        (["--set=classes=3"], "follows from the data set"),
        (["--resize=1"], "too small for densenet121"),
        (["--gpus=99"], "GPU 99 can't be used"),
        (["--batch-size=999"], "--batch-size (=999)"),
        (["--epochs=0"], "epochs (=0) must be"),
        (["--lr=-1"], "lr (=-1.0) must be"),
        (["--dataset=fashion_mnist", "--data-dir=nowhere"], "nowhere"),
        (["--resume", "nowhere"], "holds no run"),
        (["--resume"], "--resume needs the run's folder"),
    ],
)
def test_mistake_gets_one_line(main, tmp_path, monkeypatch, capsys, args, message):
    monkeypatch.chdir(tmp_path)
    assert main([*FAST, *args]) == 2
    assert message in error_line(capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "args", [["--recipe=none"], ["--gpus=a"], ["--epochs=x"], ["--nothing"], ["--set=growth_rate"]]
)
def test_bad_option_gets_one_line(main, capsys, args):
    with pytest.raises(SystemExit) as stopped:
        main(args)
    assert stopped.value.code == 2
    error_line(capsys)


def test_folders_that_are_not_free_get_one_line(main, tmp_path, capsys):
    out = tmp_path / "run"
    assert main([*FAST, "--epochs=1", "--out", str(out)]) == 0
    capsys.readouterr()
    assert main([*FAST, "--out", str(out)]) == 2
    assert "continue it with --resume, replace it with --overwrite, or" in error_line(capsys)
    assert main([*FAST, "--epochs=1", "--out", str(out), "--overwrite"]) == 0
    assert main(["--resume", str(out), "--overwrite"]) == 2
    assert "give one of them" in error_line(capsys)
    assert main([*FAST, "--out", str(out / "log.csv" / "x")]) == 2
    assert "Cannot write to the folder" in error_line(capsys)
    assert main(["--resume", str(out), "--model=densenet169"]) == 2
    assert "holds a run with --model 'densenet121'" in error_line(capsys)
    assert main(["--resume", str(out), "--recipe=listing"]) == 2
    assert "which can't be changed" in error_line(capsys)


def test_diverged_training_gets_one_line_and_code_1(main, tmp_path, capsys):
    assert main([*FAST, "--lr=1e30", "--out", str(tmp_path / "run")]) == 1
    assert "at step" in error_line(capsys)


def test_falls_back_to_digits_loudly(main, tmp_path, capsys):
    args = ["--dataset=fashion_mnist", "--data-dir=nowhere", "--fallback-digits", "--epochs=1"]
    assert main([*FAST, *args, "--batch-size=500", "--out", str(tmp_path)]) == 0
    assert "NOT those of Fashion-MNIST" in capsys.readouterr().err
    assert RunFolder(tmp_path).config().data.dataset == "digits"


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_saves_and_exits(root, main, tmp_path, signum, code):
    out = tmp_path / "a run"
    command = [sys.executable, str(root / "scripts/train_fashion_mnist.py"), *FAST]
    process = subprocess.Popen(
        [*command, "--epochs=100000", "--out", str(out)],
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert any(line.startswith("epoch 1/100000") for line in process.stdout)
        time.sleep(0.5)
        process.send_signal(signum)
        output, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == code, errors
    assert errors == ""
    assert f"stopped by {signal.Signals(signum).name} at step " in output
    assert output.rstrip().endswith(f"--resume '{out}'")
    saved = checkpoint.load(out / "checkpoints" / "last")
    assert f"at step {saved.step} " in output
    assert len(RunFolder(out).rows()) == saved.epoch >= 1
    assert (out / "report.html").is_file()
    args = ["--resume", str(out), f"--epochs={saved.epoch + 1}", "--no-progress"]
    assert main(args) == 0


def test_a_second_signal_says_how_to_continue(main, tmp_path, capsys, monkeypatch):
    def second(signum):
        with StopOnSignal() as stop:
            stop._receive(signum, None)
            stop._receive(signum, None)

    monkeypatch.setattr("gluondense.training.loop._train_epoch", lambda *_: second(signal.SIGTERM))
    monkeypatch.setattr("sys.argv", ["gluondense train fashion-mnist"])
    assert main([*FAST, "--out", str(tmp_path / "run")]) == 143
    line = f"continue with: gluondense train fashion-mnist --resume {tmp_path / 'run'}"
    assert capsys.readouterr().err == f"stopped by SIGTERM; {line}\n"
    monkeypatch.undo()
    assert main(["--resume", str(tmp_path / "run"), "--epochs=1", "--no-progress"]) == 0
