"""One candidate in a process of its own, which imports nothing of gluondense: it is run by path.

It prints a line of JSON when the first prediction is done, and one for each line of its input: how
often to predict.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
import time
from pathlib import Path


def main(folder: str, name: str, threads: str, shape: str, cpu: str = "") -> None:
    """Build, predict, and go on predicting when told."""
    # Since the process was made, by the clock that its start was noted with.
    begin = time.clock_gettime(time.CLOCK_MONOTONIC) - float(os.environ["GLUONDENSE_START"])
    begin -= time.perf_counter()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not be taken for an answer
    if cpu:
        os.sched_setaffinity(0, {int(cpu)})

    def answer(**values: object) -> None:
        print(json.dumps(values), file=answers, flush=True)

    import numpy as np
    from candidates import find  # type: ignore[import-not-found]  # beside this file

    size = tuple(map(int, shape.split(",")))
    file = Path(folder) / f"images-{size[-1]}.npy"
    images = np.resize(np.load(file, mmap_mode="r")[: size[0]], size)
    candidate = find(name)
    for module in candidate.needs:
        importlib.import_module(module)
    imported = begin + time.perf_counter()
    run = candidate.build(Path(folder), int(threads), size)
    loaded = begin + time.perf_counter()
    logits = run(images)
    answer(
        first_s=begin + time.perf_counter(),
        import_s=imported,
        load_s=loaded - imported,
        rss_mb=memory_mb("VmRSS"),
        peak_mb=memory_mb("VmHWM"),
        logits=logits[0].tolist(),
    )
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            start = time.perf_counter()
            run(images)
            times.append(time.perf_counter() - start)
        answer(times=times)


def memory_mb(key: str) -> float:
    """Resident memory now, or at its peak; getrusage begins with that of who started us."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{key}:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]


if __name__ == "__main__":
    main(*sys.argv[1:])
