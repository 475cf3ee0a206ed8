# SPDX-License-Identifier: Apache-2.0
"""Runs of an experiment, each a process of ``gluondense train``."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..training import checkpoint
from .plan import PlannedRun

__all__ = ["arguments_of", "train"]


def arguments_of(run: PlannedRun, shared: Sequence[str], folder: Path) -> list[str]:
    """Return the arguments of ``gluondense train`` that start a run, or continue it."""
    place = folder / run.folder
    if checkpoint.find(place) is not None:
        where = ["--resume", str(place)]
    else:  # the folder may have files of a run that ended before its first checkpoint
        where = ["--out", str(place), "--overwrite"]
    return [*run.arguments, *shared, "--seed", str(run.seed), *where]


def train(run: PlannedRun, shared: Sequence[str], folder: Path) -> int:
    """Train a run to its end in another process, which inherits the terminal; return its exit code.

    A signal to stop is passed on, so that the run saves its state; a keyboard's reaches it anyway.
    The code is then 128 and the signal's number, also if the run had just ended.
    """
    arguments = arguments_of(run, shared, folder)
    print(f"gluondense train {shlex.join(arguments)}", flush=True)
    process = subprocess.Popen([sys.executable, "-m", "gluondense", "train", *arguments])

    received: list[int] = []

    def pass_on(number: int, _: Any) -> None:
        received.append(number)
        if number != signal.SIGINT:
            process.send_signal(number)

    stops = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, pass_on) for number in stops]
    try:
        code = process.wait()
        return 128 + received[0] if received else code
    finally:
        for number, handler in zip(stops, before):
            signal.signal(number, handler)
