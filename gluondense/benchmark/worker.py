"""One candidate in a process of its own, which imports nothing of gluondense: it is run by path.

It prints a line of JSON when the first prediction is done, and one for each line of its input: how
often to predict.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path


def main(folder: str, name: str, threads: str, shape: str) -> None:
    """Build, predict, and go on predicting when told."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not be taken for an answer

    def answer(**values: object) -> None:
        print(json.dumps(values), file=answers, flush=True)

    import numpy as np

    size = tuple(map(int, shape.split(",")))
    image = np.random.default_rng(0).standard_normal(size, dtype="float32")
    from candidates import CANDIDATES  # type: ignore[import-not-found]  # beside this file

    run = CANDIDATES[name].build(Path(folder), int(threads), size)
    logits = run(image)
    answer(
        # Since the process was made, by the clock that its start was noted with.
        first_s=time.clock_gettime(time.CLOCK_MONOTONIC) - float(os.environ["GLUONDENSE_START"]),
        rss_mb=most_memory_mb(),
        logits=logits[0, :8].tolist(),
    )
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            start = time.perf_counter()
            run(image)
            times.append(time.perf_counter() - start)
        answer(times=times)


def most_memory_mb() -> float:
    """Peak of the resident memory; getrusage begins with that of the process that started us."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]


if __name__ == "__main__":
    main(*sys.argv[1:])
