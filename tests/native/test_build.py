# SPDX-License-Identifier: Apache-2.0
"""The cache of the compiled library: a damaged one is compiled again."""

from __future__ import annotations

import importlib
import os
import signal
import threading
import time
from pathlib import Path

import pytest

build_module = importlib.import_module("gluondense.native.build")

CONTENT = b"\x7fELF" + bytes(1000)


@pytest.fixture
def compiled(monkeypatch):
    """Count the compilations, each of which writes CONTENT."""
    done: list[Path] = []

    def compile_(compiler, work):
        done.append(work)
        (work / "gluondense.so").write_bytes(CONTENT)
        return work / "gluondense.so"

    monkeypatch.setattr(build_module, "_compile", compile_)
    monkeypatch.setattr(build_module, "find_compiler", lambda: ["c++"])
    return done


def test_it_is_compiled_once(compiled, tmp_path):
    library = build_module.build(tmp_path)
    assert build_module.build(tmp_path) == library
    assert len(compiled) == 1
    assert library.read_bytes() == CONTENT


@pytest.mark.parametrize("content", [b"", CONTENT[:-1], CONTENT[:-1] + b"x"])
def test_a_damaged_library_is_compiled_again(compiled, tmp_path, content, caplog):
    library = build_module.build(tmp_path)
    library.write_bytes(content)
    assert build_module.build(tmp_path) == library
    assert library.read_bytes() == CONTENT
    assert f"{library} is damaged or has no checksum: it is compiled again." in caplog.text
    build_module.build(tmp_path)
    assert len(compiled) == 2


@pytest.mark.parametrize("content", [None, b"", b"\xff"])
def test_a_library_without_a_checksum_is_compiled_again(compiled, tmp_path, content):
    library = build_module.build(tmp_path)
    checksum = library.with_name(f"{library.name}.sha256")
    if content is None:
        checksum.unlink()
    else:
        checksum.write_bytes(content)
    build_module.build(tmp_path)
    assert len(compiled) == 2
    assert {path.suffix for path in tmp_path.iterdir()} == {".so", ".sha256"}


# Its child, as the compiler proper of g++, has the same stderr.
HANGS = """#!/bin/sh
case "$*" in *"-o /dev/null"*) exit ;; esac
echo >>{started}
sleep 61 &
wait
"""


def test_an_interrupted_compilation_leaves_no_compiler(monkeypatch, tmp_path):
    """Ctrl-C would otherwise wait for the compilers that run."""
    started = tmp_path / "started"
    (tmp_path / "c++").write_text(HANGS.format(started=started))
    (tmp_path / "c++").chmod(0o755)
    monkeypatch.setenv("CXX", str(tmp_path / "c++"))
    until = time.monotonic() + 60

    def interrupt() -> None:
        while not started.exists() and time.monotonic() < until:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        build_module.build(tmp_path / "native")
    assert time.monotonic() < until
    assert not list((tmp_path / "native").iterdir())
