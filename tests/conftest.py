"""Fixtures that several test modules use."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

import gluondense  # noqa: F401  # first: it sets MXNet's threads, also where a test imports mxnet itself

ROOT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser):
    parser.addoption(
        "--max-seconds",
        type=float,
        default=float("inf"),
        help="skip the tests that would start later than this many seconds after the first one",
    )


def pytest_sessionstart(session):
    session.config.gluondense_started = time.monotonic()


def pytest_runtest_setup(item):
    limit = item.config.getoption("--max-seconds")
    if time.monotonic() - item.config.gluondense_started > limit:
        pytest.skip(f"out of time: --max-seconds {limit:g}")


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Data that is too big or not ours to ship; tests that use it skip without it."""
    folder = Path(os.environ.get("GLUONDENSE_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}: set GLUONDENSE_SHARED")
    return folder


@pytest.fixture(scope="session")
def fashion_mnist_dir(shared: Path) -> Path:
    """The four original files of Fashion-MNIST."""
    folder = shared / "data" / "fashion-mnist"
    if not folder.is_dir():
        pytest.skip(f"no Fashion-MNIST at {folder}")
    return folder
