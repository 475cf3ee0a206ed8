"""The ``gluondense`` command: finds its commands, and answers ``--help`` without heavy imports."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys

import pytest

import gluondense
from gluondense.__main__ import COMMANDS, main
from gluondense.commands import arguments
from gluondense.data import DATASETS
from gluondense.deploy.serving.archive import ARCHIVES

# Modules that --help must not import; a package's name stands for what it contains.
HEAVY = ("PIL", "cv2", "gluoncv", "mxnet", "numpy", "plotly", "requests", "scipy", "sklearn")


def test_models_lists_the_names_that_match(capsys):
    assert main(["models"]) == 0
    assert capsys.readouterr().out.split() == gluondense.list_models()
    assert main(["models", "dpn*8*"]) == 0
    assert capsys.readouterr().out.split() == [
        "dpn48b",
        "dpn68",
        "dpn68b",
        "dpn98",
        "dpn98_listing",
    ]
    assert main(["models", "resnet*"]) == 2
    assert "'resnet*'" in capsys.readouterr().err


@pytest.mark.parametrize("group", [[], ["train"]], ids=["all", "train"])
def test_help_lists_the_commands(group, capsys):
    assert main([*group, "--help"]) == 0
    text = capsys.readouterr().out
    for name, row in COMMANDS.items():
        shown = f"  {name} " in text and row.help in text
        assert shown == name.startswith(" ".join(group)), name
    assert main(group) == 2  # no command: the same list as an error
    assert capsys.readouterr().err == text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["evalaute"],
            "error: unknown command 'evalaute'; did you mean 'evaluate'? (see gluondense --help)",
        ),
        (["train", "cfar"], "unknown command 'train cfar'; did you mean 'cifar'?"),
        (["train", "cfar"], "(see gluondense train --help)"),
        (["xyzzy"], "error: unknown command 'xyzzy' (see"),
    ],
)
def test_an_unknown_command_gets_one_line(words, message, capsys):
    assert main(words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"gluondense {gluondense.__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_usage_shows_the_command_that_was_called(name, capsys):
    program = list(sys.argv)
    with pytest.raises(SystemExit) as stop:
        main([*name.split(), "--help"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: gluondense {name} ")
    assert sys.argv == program


@pytest.mark.parametrize("name", COMMANDS)
def test_help_imports_nothing_heavy(name):
    code = (
        "import contextlib, sys\n"
        "from gluondense.__main__ import main\n"
        "with contextlib.suppress(SystemExit):\n"
        f"    main([*{name.split()}, '--help'])\n"
        f"print(*set({HEAVY}) & set(sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "\n"


def test_an_error_of_mxnets_import_is_one_line(tmp_path, root):
    (tmp_path / "mxnet").mkdir()
    (tmp_path / "mxnet/__init__.py").write_text("raise ValueError('numpy.dtype size changed')")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(root)])}
    for command in (["-m", "gluondense", "models"], ["scripts/train_fashion_mnist.py"]):
        done = subprocess.run(
            [sys.executable, *command], cwd=root, env=environment, capture_output=True, text=True
        )
        start = "error: MXNet cannot be imported (ValueError: numpy.dtype size changed): reinstall"
        assert done.stderr.startswith(start)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize("row", [row.module for row in COMMANDS.values()])
def test_a_script_is_the_same_function(row, root):
    if row == "models":
        return  # no script
    source = (root / "scripts" / f"{row.replace('.', '_')}.py").read_text(encoding="utf-8")
    assert f"from gluondense.commands.{row} import main" in source
    assert callable(importlib.import_module(f"gluondense.commands.{row}").main)


def test_python_m_gluondense_is_the_command():
    command = [sys.executable, "-m", "gluondense", "export", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: gluondense export ")


def test_names_that_are_written_out_are_those_of_the_tables(capsys):
    assert tuple(sorted(DATASETS)) == arguments.DATASETS
    with pytest.raises(SystemExit):
        main(["archive", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for ending, row in ARCHIVES.items():
        assert f"NAME{ending} for {row.server}" in text
