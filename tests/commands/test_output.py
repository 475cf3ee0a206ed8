"""Output that cannot be written, and text that the locale cannot encode."""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image
from support.training_tiny import TINY

import gluondense
from gluondense.__main__ import main
from gluondense.commands.output import call
from gluondense.commands.parser import Parser
from gluondense.training import fit

BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
UNBUFFERED = {**BUFFERED, "PYTHONUNBUFFERED": "1"}
# What a computer without a UTF-8 locale gives, even with Python's own remedies off.
ASCII = {**BUFFERED, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    fit(TINY.with_fields(epochs=1), folder, progress=False)
    return folder


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "image.png"
    Image.new("L", (12, 9), 77).save(path)
    return path


def gluondense_command(*words):
    return [sys.executable, "-m", "gluondense", *map(str, words)]


@pytest.mark.parametrize("environment", [BUFFERED, UNBUFFERED], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("command", [["models"], ["--help"], ["predict", "--help"]], ids="-".join)
def test_a_full_disk_is_one_line(command, environment):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            gluondense_command(*command),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
    if command == ["predict", "--help"] and environment is UNBUFFERED:
        assert (done.returncode, done.stderr) == (0, "")  # argparse ignores the error
    else:
        expected = (2, "error: cannot write: No space left on device\n")
        assert (done.returncode, done.stderr) == expected


def test_predict_to_a_full_disk_is_one_line(run_folder, image):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            gluondense_command("predict", run_folder, image),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert (done.returncode, done.stderr) == (2, "error: cannot write: No space left on device\n")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            FileNotFoundError(2, "No such file or directory", "a.png"),
            "a.png: No such file or directory",
        ),
        (FileNotFoundError("`out` has no folder"), "--out has no folder"),
        (OSError(5, "Input/output error"), "cannot read or write: Input/output error"),
        (MemoryError(), "MemoryError"),
    ],
    ids=str,
)
def test_an_error_of_the_system_is_a_sentence(error, message, capsys):
    parser = Parser()
    parser.add_argument("--out")

    def run(_):
        raise error

    assert call(run, parser.parse_args([])) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


@pytest.mark.parametrize("environment", [BUFFERED, UNBUFFERED], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("command", [["models"], ["--help"]], ids="-".join)
def test_a_closed_pipe_ends_the_command_silently(command, environment):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        gluondense_command(*command), stdout=writer, stderr=subprocess.PIPE, env=environment
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_broken_connection_is_no_closed_pipe(capsys):
    def fail(_):
        raise BrokenPipeError("the other worker has ended")

    assert call(fail, argparse.Namespace()) == 2
    assert capsys.readouterr().err == "error: the other worker has ended\n"


@contextmanager
def file_size_limit(size):
    """Let writes beyond a size fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_an_export_that_does_not_fit_is_one_line(run_folder, tmp_path, capsys):
    with file_size_limit(4096):
        assert main(["export", str(run_folder), "--out", str(tmp_path / "new" / "net")]) == 2
    expected = f"error: cannot write to {tmp_path / 'new'} (File too large), so nothing was written"
    error = capsys.readouterr().err
    assert error.startswith(expected)
    assert error.count("\n") == 1
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("suffix", [".params", ".safetensors"])
def test_converted_weights_that_do_not_fit_are_one_line(tmp_path, capsys, suffix):
    net = gluondense.get_model("densenet_tutorial", classes=7)
    net.initialize()
    net.save_parameters(str(tmp_path / "in.params"))
    out = tmp_path / f"out{suffix}"
    arguments = [str(tmp_path / "in.params"), str(out), "--model", "densenet_tutorial"]
    naming = ["--set", "classes=7", "--naming", "gluondense"]
    with file_size_limit(20_000):
        assert main(["convert", *arguments, *naming]) == 2
    error = capsys.readouterr().err
    assert "File too large" in error
    assert str(out) in error
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["in.params"]


def test_a_network_that_does_not_fit_into_memory_is_one_line(capsys):
    assert main(["stats", "densenet121", "--set", "growth_rate=100000000"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: MXNet: ")
    assert error.count("\n") == 1


def test_an_unexpected_error_keeps_its_traceback():
    def fail(_):
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        call(fail, Parser().parse_args([]))


@pytest.mark.slow
def test_an_ascii_locale_trains_exports_and_predicts_in_any_folder(tmp_path, image):
    out = tmp_path / "größe"
    flags = ["--recipe", "demo", "--dataset", "digits", "--epochs", "1", "--no-progress"]
    for command in (
        ["train", "fashion-mnist", *flags, "--out", out],
        ["export", out],
        ["predict", out / "export" / "densenet121", image],
    ):
        done = subprocess.run(gluondense_command(*command), env=ASCII, capture_output=True)
        assert (done.returncode, done.stderr) == (0, b"")
    assert (out / "report.html").is_file()
    assert "größe".encode() in done.stdout or str(image).encode() in done.stdout


def test_an_ascii_locale_writes_the_names_of_class_folders(tmp_path):
    for split in ("train", "val"):
        for name in ("grün", "rot"):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for index in range(8):
                file = tmp_path / "data" / split / name / f"{index}.png"
                Image.new("RGB", (16, 16), (9, 20 * index, 5)).save(file)
    flags = ["--model=densenet40_k12_cifar10", "--set=block_config=[1,1,1]", "--input-size=16"]
    sizes = ["--batch-size=4", "-j1", "--epochs=1", "--no-progress", f"--out={tmp_path / 'run'}"]
    command = ["train", "imagenet", "--data-dir", tmp_path / "data", *flags, *sizes]
    done = subprocess.run(gluondense_command(*command), env=ASCII, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert "grün" in (tmp_path / "run" / "report.html").read_text("utf-8")
    assert gluondense.training.checkpoint.load(tmp_path / "run").class_names == ("grün", "rot")


def test_a_damaged_log_names_its_line(run_folder, tmp_path, capsys):
    folder = Path(shutil.copytree(run_folder, tmp_path / "run"))
    with open(folder / "log.csv", "ab") as file:
        file.write(b"\xff\xfe\x00")
    assert main(["report", str(folder)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {folder / 'log.csv'} is damaged: line 3 is no row of numbers")
    assert error.count("\n") == 1


def test_text_that_an_encoding_lacks_is_escaped(run_folder):
    code = "from gluondense.commands.output import call\ncall(lambda _: print('θ'), None)"
    environment = {**BUFFERED, "PYTHONIOENCODING": "latin-1:strict"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"\\u03b8\n", b"")
