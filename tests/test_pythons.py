"""Every Python that MXNet 1.9.1 runs on, with the oldest and the newest NumPy it has wheels for.

Makes an environment for each pair, or reuses it, in ``GLUONDENSE_VENVS``, else ``.cache/pythons``.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.paths import ROOT

pytestmark = pytest.mark.pythons

# The oldest NumPy of each Python is the first with wheels for it, from 1.21 on.
PAIRS = [
    pytest.param("3.9", "==1.21.6", id="3.9-oldest"),
    pytest.param("3.9", "", id="3.9"),
    pytest.param("3.10", "==1.21.6", id="3.10-1.21"),
    pytest.param("3.10", "", id="3.10"),
    pytest.param("3.11", "==1.23.5", id="3.11-1.23"),
    pytest.param("3.11", "", id="3.11"),
    pytest.param("3.12", "==1.26.4", id="3.12-1.26"),
    pytest.param("3.12", "", id="3.12"),
    pytest.param("3.13", "==2.1.0", id="3.13-2.1"),
    pytest.param("3.13", "", id="3.13-newest"),
]

CLEAN = {
    name: value
    for name, value in os.environ.items()
    if name not in {"PYTHONPATH", "OMP_NUM_THREADS", "GOMP_SPINCOUNT", "VIRTUAL_ENV"}
}


def interpreter(version: str) -> str:
    """The path of an installed Python, found the way the Makefile does."""
    found = subprocess.run(
        ["sh", str(ROOT / "scripts/dev/find_python.sh"), version],
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode:
        pytest.skip(f"no Python {version} on this machine")
    return found.stdout.strip()


def environment(version: str, numpy: str) -> Path:
    """The interpreter of an environment with this pair, made where there is none yet."""
    base = Path(os.environ.get("GLUONDENSE_VENVS", ROOT / ".cache/pythons"))
    # The digest of pyproject.toml, because other dependencies need another environment.
    digest = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()[:8]
    folder = base / f"py{version}-numpy{numpy.strip('=') or 'newest'}-{digest}"
    python = folder / "bin/python"
    if not (folder / "ready").exists():
        base.mkdir(parents=True, exist_ok=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--no-compile"]
        for command in (
            [interpreter(version), "-m", "venv", "--clear", folder],
            [*pip, "--editable", ROOT, f"numpy{numpy}"],
            [*pip, "--no-deps", "mxnet==1.9.1"],
        ):
            run(command, timeout=1200)
        (folder / "ready").touch()
    return python


def run(command: list, timeout: int) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        env=CLEAN,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.mark.parametrize(("version", "numpy"), PAIRS)
def test_mxnet_works_with(version, numpy):
    interpreter(version)
    python = environment(version, numpy)
    answer = json.loads(run([python, "tests/smoke.py"], timeout=300).splitlines()[-1])
    assert answer["python"].startswith(version + ".")
    if numpy:
        assert answer["numpy"] == numpy.strip("=")
    print(answer, file=sys.stderr)  # shown by pytest -rP
