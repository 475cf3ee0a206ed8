# SPDX-License-Identifier: Apache-2.0
"""Worker process of one backend of the GPU benchmark, run by path.

It prints one line of JSON with the megabytes of the device that it uses after three calls, and then
one line per line of its input: the seconds of a call, averaged over that many.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time

WARM_UP = 3  # the first calls choose cuDNN's algorithms


def main(
    folder: str, name: str, threads: str, kind: str, model: str, batch: str, size: str, device: str
) -> None:
    """Build the backend, warm it up, then serve requests from standard input."""
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # output of libraries must not mix with the results
    from gpu_backends import BACKENDS  # type: ignore[import-not-found]  # in this folder

    backend = BACKENDS[kind][name]
    for module in backend.needs:
        importlib.import_module("gluondense" if module == "mxnet" else module)
    run, synchronize, free_bytes = backend.build(model, int(batch), int(size), device == "cpu")
    before = free_bytes()
    for _ in range(WARM_UP):
        run()
    synchronize()
    used = (before - free_bytes()) / 2**20
    print(json.dumps({"used_mb": used}), file=output, flush=True)
    for line in sys.stdin:
        count = int(line)
        start = time.perf_counter()
        for _ in range(count):
            run()
        synchronize()
        seconds = (time.perf_counter() - start) / count
        print(json.dumps({"times": [seconds]}), file=output, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
