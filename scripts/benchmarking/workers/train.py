# SPDX-License-Identifier: Apache-2.0
"""Worker process of one training backend, run by path.

It prints one line of JSON with its memory after two steps, and then one line per line of its
input, which is a number of steps to time.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
from pathlib import Path


def main(folder: str, name: str, threads: str, model: str, batch: str, size: str) -> None:
    """Build the backend, train two steps, then serve requests from standard input."""
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # output of libraries must not mix with the results
    from infer import memory_mb, timed  # type: ignore[import-not-found]  # in this folder
    from training_backends import BACKENDS  # type: ignore[import-not-found]

    backend = BACKENDS[name]
    for module in backend.needs:
        importlib.import_module("gluondense" if module == "mxnet" else module)
    step, planned_mb = backend.build(model, int(batch), int(size), int(threads))
    before = memory_mb("VmRSS")
    with contextlib.suppress(OSError):  # resets VmHWM to the memory in use
        Path("/proc/self/clear_refs").write_text("5")
    for _ in range(2):
        step()
    peak = memory_mb("VmHWM")
    memory = {"before_mb": before, "peak_mb": peak, "planned_mb": planned_mb()}
    print(json.dumps(memory), file=output, flush=True)
    for line in sys.stdin:
        print(json.dumps({"times": timed(step, int(line))}), file=output, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
