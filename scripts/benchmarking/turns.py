# SPDX-License-Identifier: Apache-2.0
"""Measure backends that need no prepared files: worker processes that take turns."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .prepare import check_installed
from .process import Worker, log


def measure_in_turns(
    needs: Mapping[str, Sequence[str]],
    program: Path,
    case: Sequence[Any],
    threads: int,
    rounds: int,
    round_seconds: float = 0.0,
) -> tuple[dict[str, dict[str, Any]], list[dict[str, str]]]:
    """Return memory and times of each backend, and the reasons why others have none.

    Parameters
    ----------
    needs
        The modules that each backend needs.
    program, case, threads
        As of :class:`.process.Worker`.
    rounds, round_seconds
        Number of turns of each backend. In a turn it makes as many calls as take so many seconds,
        at least one.
    """
    found, missing = {}, []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        workers = {}
        for name, modules in needs.items():
            log(f"{' '.join(map(str, case))}: starting {name}")
            try:
                check_installed(modules)
                worker = Worker(folder, name, threads, case, program)
                stack.callback(worker.close)
                found[name] = {**worker.first(), "times": []}
                count = round(round_seconds / worker.predict(1)[0]) if round_seconds else 1
                workers[name] = worker, max(1, count)
            except RuntimeError as error:
                found.pop(name, None)
                missing.append({"name": name, "reason": str(error)})
                log(f"no {name}: {error}")
        for _ in range(rounds):
            for name, (worker, count) in workers.items():
                found[name]["times"] += worker.predict(count)
    return found, missing
