# SPDX-License-Identifier: Apache-2.0
"""Runs commands, each in a fork of a process that has already imported MXNet, and disturbs them.

A new process needs seconds to import; a fork needs milliseconds, so that thousands can be tried.
Two commands are of this file: ``download URL FILE SHA256``, because those of gluondense know their
URLs, and ``compile FOLDER COMPILER``, which they do as a part of others.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import mmap
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

WRITE, CREATE, RENAME, SYNC = 1, 2, 4, 8
ALL = WRITE | CREATE | RENAME | SYNC
KILL, SHORT, JUMP = -1, -2, -3  # see shim.c
SIGNAL = -100
SIGNUMS = (signal.SIGTERM, signal.SIGINT)
LONGEST = 10  # seconds from a signal to the end of a command
OUTSIDE = 77  # exit code if a signal came before the command started, or after its end
TIMEOUT = 600  # a busy machine took 122 s


@dataclass(frozen=True)
class Fault:
    """What happens to a command: at its ``nth`` call of ``classes``, or after some seconds."""

    kind: int = 0  # an errno, KILL, SHORT, JUMP, or SIGNAL minus the signal's number
    nth: int = 0
    classes: int = ALL
    sticky: bool = False
    jump: int = 0  # seconds by which the system clock changes
    after: float | None = None
    signum: int = signal.SIGKILL  # sent after that time


@dataclass(frozen=True)
class Done:
    """How a command ended: exit code or minus the signal, its counted calls, times and output."""

    code: int
    calls: int
    seconds: float
    ending: float  # seconds from the signal to the end; 0 without a signal
    stdout: str
    stderr: str


NOTHING = Fault()


class Worker:
    """The process that forks; a context manager."""

    def __init__(self, library: Path, root: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(library)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=root,
            env={
                **os.environ,
                "LD_PRELOAD": str(library),
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": str(root),
                "no_proxy": "127.0.0.1",
            },
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait(TIMEOUT)
        self._process.stdout.close()

    def run(self, argv: list[str], folder: Path, fault: Fault = NOTHING) -> Done:
        """Run ``gluondense ARGV``; only calls for files below ``folder`` are counted."""
        job = {"argv": list(map(str, argv)), "folder": f"{folder}/", **asdict(fault)}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the worker has died"
        return Done(**json.loads(line))


def longest_ending() -> float:
    """Return the limit in seconds, which is longer on a machine with more work than cores."""
    return LONGEST * max(1, os.getloadavg()[0] / len(os.sched_getaffinity(0)))


def main() -> None:
    """Read jobs from stdin, write how they ended to stdout."""
    import_all()
    for signum in SIGNUMS:  # inherited by the forks
        signal.signal(signum, lambda *_: os._exit(OUTSIDE))
    shim = ctypes.CDLL(sys.argv[1])
    shared = mmap.mmap(-1, ctypes.sizeof(Shared))
    counters = Shared.from_buffer(shared)
    for line in sys.stdin:
        job = json.loads(line)
        outputs = [os.memfd_create(name) for name in ("stdout", "stderr")]
        counters.signalled_at = 0
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            child(shim, job, ctypes.addressof(counters), outputs)
        code = wait(pid, job["after"], job["signum"], counters)
        ended = time.monotonic()
        answer = Done(
            code,
            counters.calls,
            ended - began,
            ended - counters.signalled_at if counters.signalled_at else 0,
            *(os.pread(output, 1 << 20, 0).decode("utf-8", "replace") for output in outputs),
        )
        for output in outputs:
            os.close(output)
        print(json.dumps(asdict(answer)), flush=True)


class Shared(ctypes.Structure):
    """As in shim.c: the counted calls, and when a signal was sent on the monotonic clock."""

    _fields_ = (("calls", ctypes.c_long), ("signalled_at", ctypes.c_double))


def import_all() -> None:
    """Import what commands import on first use, and load the native operators."""
    import importlib

    from gluondense import native
    from gluondense.__main__ import COMMANDS

    for command in COMMANDS.values():
        importlib.import_module(f"gluondense.commands.{command.module}")
    for name in (
        "deploy.exporter",
        "deploy.serving.archive",
        "deploy.prediction",
        "data.files.record_maker",
        "evaluation.evaluate",
        "training",
        "weights.load",
        "weights.save",
    ):
        importlib.import_module(f"gluondense.{name}")
    native.load()


def child(shim: ctypes.CDLL, job: dict, address: int, outputs: list[int]) -> None:
    """Run the command in this fork; never returns."""
    from gluondense.__main__ import main as gluondense

    code = 99
    try:
        for number, output in enumerate(outputs, 1):
            os.dup2(output, number)
        shim.fault_arm(
            job["folder"].encode(),
            ctypes.c_long(job["nth"]),
            job["kind"],
            job["classes"],
            int(job["sticky"]),
            ctypes.c_long(job["jump"]),
            ctypes.c_void_p(address),
        )
        run = {"download": download, "compile": build}.get(job["argv"][0], gluondense)
        code = run(job["argv"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def download(argv: list[str]) -> int:
    """Download a file as all commands do."""
    from gluondense.commands.output import call
    from gluondense.download.file import download_file, has_sha256

    _, url, path, digest = argv

    def run(_: argparse.Namespace) -> None:
        download_file([url], Path(path), lambda found: has_sha256(found, digest), "try again")

    return call(run, argparse.Namespace())


def build(argv: list[str]) -> int:
    """Compile the native operators as all commands do."""
    from gluondense import native
    from gluondense.commands.output import call

    _, folder, os.environ["CXX"] = argv
    return call(lambda _: print(native.build(folder)), argparse.Namespace())


def wait(pid: int, after: float | None, signum: int, counters: Shared) -> int:
    """Wait for the fork, signal it when it is time; return its exit code or minus the signal."""
    end = time.monotonic() + (TIMEOUT if after is None else after)
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        left = end - time.monotonic()
        if left <= 0:
            if after is None or counters.signalled_at:
                signum = signal.SIGKILL
            counters.signalled_at = counters.signalled_at or time.monotonic()
            os.kill(pid, signum)
            end = time.monotonic() + TIMEOUT
        time.sleep(min(max(left, 0), 0.002))


if __name__ == "__main__":
    main()
