# SPDX-License-Identifier: Apache-2.0
"""Measures this CPU's peak throughput of multiply-adds and its memory bandwidth; run by path."""

from __future__ import annotations

import importlib.util
import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

SIDE = 1024  # rows and columns of the matrices
COPY_BYTES = 128 << 20
SECONDS = 2  # per peak, so that at least one repetition is undisturbed


def _best(run: Callable[[], Any], amount: float) -> float:
    """Return the highest throughput in billions per second."""
    times: list[float] = []
    end = time.perf_counter() + SECONDS
    while len(times) < 2 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return amount / min(times) / 1e9


def _products(threads: int) -> dict[str, dict[str, Callable[[], Any]]]:
    """Return the available matrix products, by precision and library."""
    import mxnet as mx

    real = np.random.default_rng(0).standard_normal((SIDE, SIDE)).astype("float32")
    a = mx.nd.array(real)
    whole, low, high = mx.nd.contrib.quantize_v2(a)
    positive = mx.nd.cast(mx.nd.abs(whole), "uint8")
    options = {"no_bias": True, "num_hidden": SIDE}
    quantized = mx.nd.contrib.quantized_fully_connected
    ranges = (low, high, low, high)
    found = {
        "fp32": {
            "NumPy": lambda: real @ real,
            "MXNet": lambda: mx.nd.FullyConnected(a, a, **options).wait_to_read(),
        },
        "int8": {"MXNet": lambda: quantized(positive, whole, *ranges, **options)[0].wait_to_read()},
    }
    if importlib.util.find_spec("torch"):
        import torch

        torch.set_num_threads(threads)
        tensor, small = torch.from_numpy(real), torch.from_numpy(whole.asnumpy())
        found["fp32"]["PyTorch"] = lambda: tensor @ tensor
        found["int8"]["PyTorch"] = lambda: torch._int_mm(small, small.t())
    return found


def _copy(threads: int) -> float:
    """Return the copy bandwidth in GB/s of all threads together, each on separate arrays."""
    arrays = [np.zeros((2, COPY_BYTES // 8)) for _ in range(threads)]

    def run() -> None:
        # NumPy releases the GIL while it copies.
        jobs = [threading.Thread(target=np.copyto, args=(to, source)) for to, source in arrays]
        for job in jobs:
            job.start()
        for job in jobs:
            job.join()

    return _best(run, 2 * COPY_BYTES * threads)


def main(threads: int) -> None:
    """Measure and print one line of JSON."""
    found: dict[str, Any] = {
        precision: {name: _best(run, SIDE**3) for name, run in runs.items()}
        for precision, runs in _products(threads).items()
    }
    for precision, speeds in found.items():
        found[precision] = dict(sorted(speeds.items(), key=lambda item: -item[1]))
    print(json.dumps({**found, "copy": _copy(threads)}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
