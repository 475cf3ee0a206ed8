"""What the fault tests share: the worker, the inputs, the time each test has, and the counts."""

from __future__ import annotations

import collections
import random
import shutil
import subprocess
import time
import zlib
from pathlib import Path

import pytest
from faults import commands
from faults.worker import Worker
from support import local_server
from support.paths import ROOT

COUNTS: collections.Counter = collections.Counter()


@pytest.fixture(scope="session")
def worker(tmp_path_factory, native_operator):
    compiler = shutil.which("gcc") or shutil.which("cc") or shutil.which("g++")
    if compiler is None:
        pytest.skip("there is no C compiler")
    library = tmp_path_factory.mktemp("shim") / "shim.so"
    source = Path(__file__).with_name("shim.c")
    flags = ["-shared", "-fPIC", "-O1", "-x", "c", str(source), "-o", str(library), "-ldl"]
    subprocess.run([compiler, *flags], check=True)
    with Worker(library, ROOT) as worker:
        yield worker


@pytest.fixture(scope="session")
def files():
    """A server of the file that is downloaded."""
    with local_server.running() as server:
        server.pages["/file"] = commands.CONTENT
        yield server


@pytest.fixture(scope="session")
def inputs(worker, files, native_operator, tmp_path_factory):
    folder = commands.prepare(worker, tmp_path_factory.mktemp("inputs"))
    commands.write_compiler(folder / "c++", native_operator)
    (folder / "url").write_text(f"{files.url}/file")
    return folder


@pytest.fixture
def started(worker, inputs, tmp_path):
    """Return a function: the files before a command and after it, and how it ended."""

    def run(command):
        out = tmp_path / "out"
        out.mkdir()
        before = {}
        if command.before:
            done = worker.run(command.words(command.before, inputs, out), out)
            assert done.code == 0, done.stderr
            before = commands.results(out)
            shutil.copytree(out, tmp_path / "before")
        done = worker.run(command.words(command.argv, inputs, out), out)
        assert done.code == 0, done.stderr
        return before, out, done

    return run


class Tries:
    """Numbers of tries until the test's share of the time is over, and a random stream."""

    def __init__(self, name: str, seconds: float, least: int) -> None:
        self.rng = random.Random(zlib.crc32(name.encode()))
        self._end, self._least = time.monotonic() + seconds, least

    def __iter__(self):
        number = 0
        while number < self._least or time.monotonic() < self._end:
            yield number
            number += 1

    @property
    def over(self) -> bool:
        return time.monotonic() > self._end


@pytest.fixture
def tries(request):
    """The test's part of ``--minutes``.

    The marker `faults` has its ``share``, 1 by default, and its ``least`` tries, 2 by default.
    """
    tests = [item for item in request.session.items if item.get_closest_marker("faults")]
    total = sum(map(share, tests))
    seconds = 60 * request.config.getoption("--minutes") * share(request.node) / total
    least = request.node.get_closest_marker("faults").kwargs.get("least", 2)
    return Tries(request.node.name, seconds, least)


def share(item) -> float:
    return item.get_closest_marker("faults").kwargs.get("share", 1)


@pytest.fixture(scope="session")
def counts():
    return COUNTS


def pytest_terminal_summary(terminalreporter):
    if COUNTS:
        terminalreporter.section("faults")
        for name, count in sorted(COUNTS.items()):
            terminalreporter.line(f"{count:>9,} {name}")
