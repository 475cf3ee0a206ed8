"""One trainer of a network in a process of its own; run by path, answers in lines of JSON.

The first line is its memory after two steps, then there is one for each line of its input: how
often to step.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import time
from pathlib import Path


def main(name: str, model: str, batch: str, size: str, threads: str) -> None:
    """Build, step twice, and go on when told."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not be taken for an answer
    from train_candidates import TRAINERS  # type: ignore[import-not-found]  # beside this file
    from worker import memory_mb  # type: ignore[import-not-found]

    trainer = TRAINERS[name]
    for module in trainer.needs:
        importlib.import_module("gluondense" if module == "mxnet" else module)
    step, planned_mb = trainer.build(model, int(batch), int(size), int(threads))
    before = memory_mb("VmRSS")
    with contextlib.suppress(OSError):  # else the peak so far counts too
        Path("/proc/self/clear_refs").write_text("5")
    for _ in range(2):
        step()
    peak = memory_mb("VmHWM")
    answer = {"before_mb": before, "peak_mb": peak, "planned_mb": planned_mb()}
    print(json.dumps(answer), file=answers, flush=True)
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            start = time.perf_counter()
            step()
            times.append(time.perf_counter() - start)
        print(json.dumps({"times": times}), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
