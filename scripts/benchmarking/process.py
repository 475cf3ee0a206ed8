# SPDX-License-Identifier: Apache-2.0
"""Worker processes, seen from the benchmark that starts them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

WORKER = Path(__file__).parent / "workers" / "infer.py"
TRAINING_WORKER = WORKER.with_name("train.py")
EXIT_SECONDS = 5
ERROR = re.compile(r"[\w.]*(Error|Exception|Exit)\b")  # the last line of a traceback


_BEGIN = time.monotonic()


def log(line: str) -> None:
    """Print a progress message with the elapsed time on standard error."""
    print(f"[{time.monotonic() - _BEGIN:5.0f} s] {line}", file=sys.stderr, flush=True)


def environment(threads: int) -> dict[str, str]:
    """Return the environment variables of a process that computes with ``threads`` threads."""
    return {
        **os.environ,
        **{f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "OPENBLAS", "MKL")},
        # Threads of a waiting worker must not spin.
        "GOMP_SPINCOUNT": "10000",
    }


class Worker:
    """The process of a backend.

    Parameters
    ----------
    folder, name, threads
        Prepared files, name of the backend and its threads.
    case
        Further arguments of the program: for inference the shape N, C, H, W of the images and
        optionally the CPU to run on; for training the network's name, batch and image size.
    program
        The program to run; default: the inference worker.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        threads: int,
        case: Sequence[str | int],
        program: Path | None = None,
    ) -> None:
        self.name = name
        self.startup: dict[str, Any] = {}
        # A pipe could fill up with the output of libraries, and block the process.
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # close() closes it
        start = str(time.clock_gettime(time.CLOCK_MONOTONIC))
        self.process = subprocess.Popen(
            [sys.executable, *map(str, (program or WORKER, folder, name, threads, *case))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            env={
                **environment(threads),
                "GLUONDENSE_START": start,
                # Locks left in the user's cache by a killed process would block this one.
                "TORCHINDUCTOR_CACHE_DIR": str(Path(folder).resolve() / "inductor"),
            },
            start_new_session=True,  # close() kills the group, child processes included
        )

    def first(self) -> dict[str, Any]:
        """Wait for the first prediction or the first steps; return the worker's first line."""
        self.startup = self.answer()
        return self.startup

    def predict(self, count: int) -> list[float]:
        """Return the seconds of each of ``count`` predictions or steps."""
        self.ask(count)
        return self.answer()["times"]

    def ask(self, count: int) -> None:
        """Request ``count`` predictions; :meth:`answer` waits for them."""
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):  # answer() reports the reason
            print(count, file=self.process.stdin, flush=True)

    def answer(self) -> dict[str, Any]:
        """Read the worker's next line.

        Raises
        ------
        RuntimeError
            If the worker has stopped; the message has the last line of its errors.
        """
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} stopped: {self._exit_message()}")
        return json.loads(line)

    def _exit_message(self) -> str:
        code = self.process.wait()
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        errors = [line for line in lines if ERROR.match(line)]
        message = (errors or lines or [f"exit code {code}, no message"])[-1]
        return f"{signal.Signals(-code).name}, {message}" if code < 0 else message

    def close(self) -> None:
        """Stop the process and its child processes."""
        if self._stderr.closed:
            return
        with contextlib.suppress(BrokenPipeError, OSError):
            self.process.stdin.close()  # type: ignore[union-attr]
        try:
            self.process.wait(EXIT_SECONDS if self.startup else 0)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process.stdout.close()  # type: ignore[union-attr]
            self._stderr.close()
