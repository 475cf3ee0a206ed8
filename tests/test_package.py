"""The sdist and the wheel: complete, and usable outside a checkout by the command only."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support.paths import ROOT

pytestmark = [pytest.mark.package, pytest.mark.slow]

VARIABLES = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "OMP_NUM_THREADS", "GOMP_SPINCOUNT"}
CLEAN = {name: value for name, value in os.environ.items() if name not in VARIABLES}
LEFT_OUT = shutil.ignore_patterns(".git", ".venv*", ".*_cache", ".cache", "build", "dist", "runs")


def run(*command: object, cwd: Path) -> str:
    words = [str(word) for word in command]
    done = subprocess.run(
        words, cwd=cwd, env=CLEAN, capture_output=True, text=True, timeout=1800, check=False
    )
    assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("package")


@pytest.fixture(scope="module")
def python(folder):
    """The interpreter of an empty environment."""
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    return folder / "venv/bin/python"


@pytest.fixture(scope="module")
def wheel(folder, python):
    """The wheel, built from the sdist, which is built from a copy of the sources."""
    shutil.copytree(ROOT, folder / "source", ignore=LEFT_OUT)
    run(python, "-m", "pip", "install", "--quiet", "build", cwd=folder)
    run(python, "-m", "build", "--outdir", folder / "dist", folder / "source", cwd=folder)
    (path,) = (folder / "dist").glob("*.whl")
    return path


@pytest.fixture(scope="module")
def gluondense(folder, python, wheel):
    """Call the installed command in an empty folder."""
    install = [python, "-m", "pip", "install", "--quiet", "--no-compile"]
    run(*install, f"{wheel}[cpu]", cwd=folder)
    if sys.version_info >= (3, 13):  # MXNet's metadata exclude the NumPy of this Python
        run(*install, "--no-deps", "mxnet==1.9.1", cwd=folder)
    (folder / "work").mkdir()
    return lambda *words: run(folder / "venv/bin/gluondense", *words, cwd=folder / "work")


def test_the_wheel_has_all_files_of_the_package(wheel):
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "gluondense").rglob("*")}
    kinds = (".py", ".cc", ".h", ".typed", ".json", ".safetensors")
    expected = {name for name in files if Path(name).suffix in kinds}
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if name.startswith("gluondense/")}
    assert names == expected


def test_the_installed_command_trains_exports_predicts_and_archives(gluondense, folder, python):
    work = folder / "work"
    where = run(python, "-c", "import gluondense; print(gluondense.__file__)", cwd=work)
    assert str(folder / "venv") in where
    run_folder = "runs/first"
    options = ("--recipe", "demo", "--dataset", "digits", "--epochs", 2, "--no-progress")
    printed = gluondense("train", "fashion-mnist", *options, "--out", run_folder)
    assert "accuracy" in printed
    assert (work / run_folder / "report.html").stat().st_size > 0

    gluondense("export", run_folder)
    (symbol,) = (work / run_folder / "export").glob("*-symbol.json")
    exported = str(symbol)[: -len("-symbol.json")]
    images = gluondense("save-samples", run_folder, "--count", 3).split()
    predictions = json.loads(gluondense("predict", exported, *images, "--json"))
    assert predictions == json.loads(gluondense("predict", run_folder, *images, "--json"))
    assert [item["image"] for item in predictions] == images

    gluondense("archive", exported, "digits.mar")
    assert "MAR-INF/MANIFEST.json" in zipfile.ZipFile(work / "digits.mar").namelist()
    assert "densenet121" in gluondense("models").split()
