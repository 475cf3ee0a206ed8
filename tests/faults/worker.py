# SPDX-License-Identifier: Apache-2.0
"""Runs commands, each in a fork of a process that has already imported MXNet, and disturbs them.

A new process needs seconds to import; a fork needs milliseconds, so that thousands can be tried.
"""

from __future__ import annotations

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
KILL, SHORT = -1, -2  # see shim.c
TIMEOUT = 120


@dataclass(frozen=True)
class Fault:
    """What happens to a command: at its ``nth`` call of ``classes``, or after some seconds."""

    kind: int = 0  # an errno, KILL or SHORT
    nth: int = 0
    classes: int = ALL
    sticky: bool = False
    kill_after: float | None = None


@dataclass(frozen=True)
class Done:
    """How a command ended: exit code or minus the signal, its counted calls, time and stderr."""

    code: int
    calls: int
    seconds: float
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


def main() -> None:
    """Read jobs from stdin, write how they ended to stdout."""
    import_all()
    shim = ctypes.CDLL(sys.argv[1])
    counter = mmap.mmap(-1, 8)
    address = ctypes.addressof(ctypes.c_long.from_buffer(counter))
    for line in sys.stdin:
        job = json.loads(line)
        errors = os.memfd_create("stderr")
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            child(shim, job, address, errors)
        code = wait(pid, job["kill_after"])
        seconds = time.monotonic() - began
        text = os.pread(errors, 1 << 20, 0).decode("utf-8", "replace")
        os.close(errors)
        calls = ctypes.c_long.from_address(address).value
        answer = {"code": code, "calls": calls, "seconds": seconds, "stderr": text}
        print(json.dumps(answer), flush=True)


def import_all() -> None:
    """Import what commands import on first use."""
    import importlib

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


def child(shim: ctypes.CDLL, job: dict, address: int, errors: int) -> None:
    """Run the command in this fork; never returns."""
    from gluondense.__main__ import main as gluondense

    code = 99
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(errors, 2)
        shim.fault_arm(
            job["folder"].encode(),
            ctypes.c_long(job["nth"]),
            job["kind"],
            job["classes"],
            int(job["sticky"]),
            ctypes.c_void_p(address),
        )
        code = gluondense(job["argv"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait(pid: int, kill_after: float | None) -> int:
    """Wait for the fork, kill it when it is time; return its exit code or minus the signal."""
    end = time.monotonic() + (TIMEOUT if kill_after is None else kill_after)
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        left = end - time.monotonic()
        if left <= 0:
            os.kill(pid, signal.SIGKILL)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        time.sleep(min(left, 0.002))


if __name__ == "__main__":
    main()
