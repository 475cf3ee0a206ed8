# SPDX-License-Identifier: Apache-2.0
"""Worker process of one inference backend, run by path: it does not import gluondense.

It prints one line of JSON after the first prediction, and then one line per line of its input,
which is a number of predictions to time.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path


def main(folder: str, name: str, threads: str, *case: str) -> None:
    """Build the backend, predict once, then serve requests from standard input."""
    # Time since the parent created this process, on the parent's clock.
    begin = time.clock_gettime(time.CLOCK_MONOTONIC) - float(os.environ["GLUONDENSE_START"])
    begin -= time.perf_counter()
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # output of libraries must not mix with the results
    size, cpu = tuple(map(int, case[:4])), case[4:]  # shape (N, C, H, W), optionally the CPU
    if cpu:
        os.sched_setaffinity(0, {int(cpu[0])})

    def answer(**values: object) -> None:
        print(json.dumps(values), file=output, flush=True)

    import numpy as np
    from backends import find  # type: ignore[import-not-found]  # in this folder

    file = Path(folder) / f"images-{size[-1]}.npy"
    images = np.resize(np.load(file, mmap_mode="r")[: size[0]], size)
    backend = find(name)
    for module in backend.needs:
        importlib.import_module(module)
    imported = begin + time.perf_counter()
    run = backend.build(Path(folder), int(threads), size)
    loaded = begin + time.perf_counter()
    found = run(images)
    answer(
        first_s=begin + time.perf_counter(),
        import_s=imported,
        load_s=loaded - imported,
        rss_mb=memory_mb("VmRSS"),
        peak_mb=memory_mb("VmHWM"),
        output=found[0].tolist(),
    )
    for line in sys.stdin:
        answer(times=timed(lambda: run(images), int(line)))


def timed(call: Callable[[], object], count: int) -> list[float]:
    """Return the seconds of each of ``count`` calls."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times


def memory_mb(key: str) -> float:
    """Return a memory size of this process, such as ``VmHWM``, the peak of its resident memory.

    ``getrusage`` would include the parent's peak from before the fork.
    """
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{key}:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]


if __name__ == "__main__":
    main(*sys.argv[1:])
