"""Fixtures that several test modules use."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import local_server
from support.paths import ROOT, SHARED

# Tensor cores would round float32 to TF32, too coarse for comparisons with the CPU.
os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
# Algorithms that are measured would differ from run to run, and leave a file for each network.
os.environ.setdefault("GLUONDENSE_TUNE", "0")

import gluondense  # noqa: F401  # first: it sets MXNet's threads, also where a test imports mxnet itself

if TYPE_CHECKING:
    import mxnet as mx


def pytest_addoption(parser):
    parser.addoption(
        "--max-seconds",
        type=float,
        default=float("inf"),
        help="skip the tests that would start later than this many seconds after the first one",
    )
    parser.addoption(
        "--minutes",
        type=float,
        default=0.3,
        help="how long tests/faults try new faults, tests/fuzz damages files, and a server soaks",
    )
    parser.addoption(
        "--fuzz-inputs",
        type=int,
        default=1500,
        help="damaged programs for each instruction set in tests/native/test_fuzz.py",
    )
    parser.addoption("--fuzz-seed", type=int, default=1, help="seed of damaged programs and files")
    parser.addoption(
        "--gpu-tests-on-cpu",
        action="store_true",
        help="run the tests of the marker gpu, with CPU contexts instead of GPUs",
    )
    parser.addoption("--parity-table", metavar="FILE", help="where test_parity.py writes its page")


def pytest_configure(config):
    """Let no test connect to another machine. Processes that tests start are not seen.

    Let SIGINT interrupt, which a shell ignores in what it starts in the background.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    patch = pytest.MonkeyPatch()
    config.add_cleanup(patch.undo)
    connect, connect_ex, getaddrinfo = (
        socket.socket.connect,
        socket.socket.connect_ex,
        socket.getaddrinfo,
    )
    patch.setattr(socket.socket, "connect", lambda *args: connect(*only_local(*args)))
    patch.setattr(socket.socket, "connect_ex", lambda *args: connect_ex(*only_local(*args)))

    def resolve(host, *args, **kwargs):
        refuse_unless_local(host)
        return getaddrinfo(host, *args, **kwargs)

    patch.setattr(socket, "getaddrinfo", resolve)


def only_local(sock, address):
    if sock.family != socket.AF_UNIX:
        refuse_unless_local(address[0])
    return sock, address


def refuse_unless_local(host) -> None:
    if host not in {"127.0.0.1", "::1", "localhost"}:
        # No Exception, so no code under test takes it for a network that is down.
        pytest.fail(f"a test wanted to reach {host!r}")


def pytest_sessionstart(session):
    session.config.gluondense_started = time.monotonic()


def pytest_runtest_setup(item):
    limit = item.config.getoption("--max-seconds")
    if time.monotonic() - item.config.gluondense_started > limit:
        pytest.skip(f"out of time: --max-seconds {limit:g}")
    if item.get_closest_marker("gpu") and not item.config.getoption("--gpu-tests-on-cpu"):
        problem = gpu_problem()
        if problem:
            pytest.skip(problem)


@functools.cache
def gpu_problem() -> str | None:
    from gluondense.environment.gpu import gpu_problem

    return gpu_problem()


@pytest.fixture
def on_cpu(request, monkeypatch) -> bool:
    """Whether CPU contexts stand for GPUs in this test: ``mx.gpu(0)`` is ``mx.cpu(1)``."""
    if not request.config.getoption("--gpu-tests-on-cpu"):
        return False
    import mxnet as mx

    monkeypatch.setattr(mx, "gpu", lambda number=0: mx.cpu(number + 1))
    monkeypatch.setattr("gluondense.training.devices.gpu_problem", lambda number: None)
    return True


@pytest.fixture
def gpu(on_cpu) -> mx.Context:
    """The first GPU. For tests of the marker gpu."""
    import mxnet as mx

    return mx.gpu(0)


@pytest.fixture
def two_gpus(on_cpu) -> list[mx.Context]:
    """The first two GPUs; skips the test on a machine with one."""
    import mxnet as mx

    if not on_cpu and mx.context.num_gpus() < 2:
        pytest.skip("there is one GPU, this needs two")
    return [mx.gpu(0), mx.gpu(1)]


@pytest.fixture
def server(monkeypatch) -> Iterator[local_server.Server]:
    """A server that misbehaves as told; the client asks it directly and again without delay."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("gluondense.download.web.BACKOFF_SECONDS", 0)
    for name in ("GLUONDENSE_MIRROR", "GLUONDENSE_OFFLINE", "MXNET_HOME"):
        monkeypatch.delenv(name, raising=False)
    with local_server.running() as server:
        yield server


@pytest.fixture
def refused_url() -> str:
    """Where no one answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/file"


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Data that is too big or not ours to ship; tests that use it skip without it."""
    if not SHARED.is_dir():
        pytest.skip(f"no shared data at {SHARED}: set GLUONDENSE_SHARED")
    return SHARED


@pytest.fixture(scope="session")
def fashion_mnist_dir(shared: Path) -> Path:
    """The four original files of Fashion-MNIST."""
    folder = shared / "data" / "fashion-mnist"
    if not folder.is_dir():
        pytest.skip(f"no Fashion-MNIST at {folder}")
    return folder


@pytest.fixture(scope="session")
def native_operator() -> Path:
    """The compiled operators of ``native``. CI has a compiler; what it refuses fails."""
    from gluondense import native

    if not any(map(shutil.which, filter(None, [os.environ.get("CXX"), "g++", "clang++"]))):
        pytest.skip("there is no C++ compiler")
    return native.build()
