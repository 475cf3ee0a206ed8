"""The process that fuzzes, the time each reader has, and the counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from support.paths import ROOT

collect_ignore = ["guided.py"]  # needs atheris
COUNTS: dict[str, tuple[int, int]] = {}


@pytest.fixture(scope="session")
def fuzz(request, tmp_path_factory):
    """Return a function: the result of fuzzing a reader in an equal share of ``--minutes``."""
    tests = [item for item in request.session.items if "fuzz" in getattr(item, "fixturenames", ())]
    seconds = 60 * request.config.getoption("--minutes") / len(tests)
    job = {"seed": request.config.getoption("--fuzz-seed"), "least": 20, "seconds": seconds}
    job["keep"] = str(tmp_path_factory.mktemp("defects"))
    path = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "fuzz.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )

    def run(reader: str) -> dict:
        process.stdin.write(json.dumps({**job, "reader": reader}) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        assert line, "the process that forks has died"
        result = json.loads(line)
        COUNTS[reader] = result["inputs"], result["accepted"]
        return result

    yield run
    process.stdin.close()
    process.wait(60)
    process.stdout.close()


def pytest_terminal_summary(terminalreporter):
    if COUNTS:
        terminalreporter.section("damaged files read, and accepted")
        for reader, (inputs, accepted) in COUNTS.items():
            terminalreporter.line(f"{inputs:>11,} {accepted:>11,} {reader}")
        total = sum(inputs for inputs, _ in COUNTS.values())
        terminalreporter.line(f"{total:>11,} in all")
