"""A candidate's process, as the one sees it that started it."""

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

WORKER = Path(__file__).with_name("worker.py")
TRAIN_WORKER = Path(__file__).with_name("train_worker.py")
SECONDS_TO_END = 5
ERROR = re.compile(r"[\w.]*(Error|Exception|Exit)\b")  # the last line of a traceback


def environment(threads: int) -> dict[str, str]:
    """Return the variables of a process that is to compute with so many threads."""
    return {
        **os.environ,
        **{f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "OPENBLAS", "MKL")},
        # Who waits for its turn must not keep a core busy.
        "GOMP_SPINCOUNT": "10000",
    }


class Worker:
    """A candidate's process.

    Parameters
    ----------
    folder
        What ``prepare`` has filled.
    name
        Of the candidate.
    threads
        It computes with.
    shape
        Of the images.
    cpu
        The one to run on; any by default.
    """

    def __init__(
        self, folder: Path, name: str, threads: int, shape: Sequence[int], cpu: int | None = None
    ) -> None:
        sizes = ",".join(map(str, shape))
        arguments = [str(folder), name, str(threads), sizes, "" if cpu is None else str(cpu)]
        self._run([str(WORKER), *arguments], name, folder, threads)

    @classmethod
    def training(cls, folder: Path, name: str, threads: int, case: Sequence[Any]) -> Worker:
        """Start a trainer on a case: the network's name, the batch and the image's side."""
        worker = cls.__new__(cls)
        arguments = [str(TRAIN_WORKER), name, *map(str, case), str(threads)]
        worker._run(arguments, name, folder, threads)
        return worker

    def _run(self, arguments: Sequence[str], name: str, folder: Path, threads: int) -> None:
        self.name = name
        self.start: dict[str, Any] = {}
        # No pipe: what a library writes there would fill it, and the process would wait for ever.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # close() closes it
        start = str(time.clock_gettime(time.CLOCK_MONOTONIC))
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={
                **environment(threads),
                "GLUONDENSE_START": start,
                # What a process that was killed has left in the user's would stop this one.
                "TORCHINDUCTOR_CACHE_DIR": str(Path(folder).resolve() / "inductor"),
            },
            start_new_session=True,  # so that it ends with all that it has started
        )

    def first(self) -> dict[str, Any]:
        """Wait for the first prediction, and return what it cost."""
        self.start = self.answer()
        return self.start

    def predict(self, count: int) -> list[float]:
        """Return the seconds of each of so many predictions."""
        self.ask(count)
        return self.answer()["times"]

    def ask(self, count: int) -> None:
        """Let it predict so often; ``answer`` waits for it."""
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):  # the answer will say why
            print(count, file=self.process.stdin, flush=True)

    def answer(self) -> dict[str, Any]:
        """Read its next line.

        Raises
        ------
        RuntimeError
            If it has stopped, with its last words.
        """
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} stopped: {self._last_words()}")
        return json.loads(line)

    def _last_words(self) -> str:
        code = self.process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        errors = [line for line in lines if ERROR.match(line)]
        words = (errors or lines or [f"exit code {code}, no message"])[-1]
        return f"{signal.Signals(-code).name}, {words}" if code < 0 else words

    def close(self) -> None:
        """End the process, and what it has started."""
        if self._errors.closed:
            return
        with contextlib.suppress(BrokenPipeError, OSError):
            self.process.stdin.close()  # type: ignore[union-attr]
        try:
            self.process.wait(SECONDS_TO_END if self.start else 0)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process.stdout.close()  # type: ignore[union-attr]
            self._errors.close()
