"""What no program can beat: multiply-adds over this CPU's peak, bytes over its bandwidth.

The peaks are measured in a process of its own, which runs this file by its path.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import threading
import time
from typing import Any, Callable

import numpy as np

SIDE = 1024  # of the matrices
COPY_BYTES = 128 << 20
SECONDS = 2  # for each peak, so that one try goes undisturbed


def peaks(threads: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure this CPU.

    Parameters
    ----------
    threads
        To compute and copy with.
    say
        Is told what is under way.

    Returns
    -------
    dict
        For ``fp32`` and ``int8`` the most multiply-adds a second in billions that a product of
        matrices reaches, by what computes it, the fastest first; ``copy`` in GB/s, bytes read and
        bytes written.
    """
    from .process import environment

    say("measuring the peak of this CPU")
    command = [sys.executable, __file__, str(threads)]
    done = subprocess.run(command, env=environment(threads), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the peaks can't be measured: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def costs(net: Any, size: int) -> dict[str, float]:
    """Return what one image costs, after the passes that leave out work.

    Parameters
    ----------
    net
        A network.
    size
        Height and width of the image.

    Returns
    -------
    dict
        ``macs``, and the ``elements`` that its convolutions read and write when nothing else does,
        with their weights.
    """
    from gluondense.analysis.costs import summary
    from gluondense.graph.inference_passes import PASSES
    from gluondense.graph.ir import Graph
    from gluondense.graph.trace import trace

    values = {name: value.data().asnumpy() for name, value in net.collect_params().items()}
    graph = Graph(trace(net), values)
    for change in PASSES.values():
        change(graph)
    symbol, _ = graph.to_symbol()
    found = summary(symbol, (1, net.spec.in_channels, size, size))
    return {"macs": found.macs, "elements": found.cio, "weights": found.params}


def floor_ms(
    cost: dict[str, float], peak: dict[str, Any], precision: str, batch: int = 1
) -> tuple[float, float]:
    """Return the ms that an image's multiply-adds and its bytes take at least.

    Parameters
    ----------
    cost
        Of ``costs``.
    peak
        Of ``peaks``.
    precision
        ``"fp32"`` or ``"int8"``.
    batch
        Images at a time, which share the weights.
    """
    size = {"fp32": 4, "int8": 1}[precision]
    elements = cost["elements"] + cost["weights"] / batch
    fastest = max(peak[precision].values())
    return cost["macs"] / fastest / 1e6, size * elements / peak["copy"] / 1e6


def _best(run: Callable[[], Any], amount: float) -> float:
    """Return the most billions a second."""
    times: list[float] = []
    end = time.perf_counter() + SECONDS
    while len(times) < 2 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return amount / min(times) / 1e9


def _products(threads: int) -> dict[str, dict[str, Callable[[], Any]]]:
    """Return what can multiply matrices here."""
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
    """Return GB/s of all threads together, each with arrays of its own."""
    arrays = [np.zeros((2, COPY_BYTES // 8)) for _ in range(threads)]

    def run() -> None:
        # NumPy copies without Python's lock.
        jobs = [threading.Thread(target=np.copyto, args=(to, source)) for to, source in arrays]
        for job in jobs:
            job.start()
        for job in jobs:
            job.join()

    return _best(run, 2 * COPY_BYTES * threads)


def _main(threads: int) -> None:
    found: dict[str, Any] = {
        precision: {name: _best(run, SIDE**3) for name, run in runs.items()}
        for precision, runs in _products(threads).items()
    }
    for precision, speeds in found.items():
        found[precision] = dict(sorted(speeds.items(), key=lambda item: -item[1]))
    print(json.dumps({**found, "copy": _copy(threads)}))


if __name__ == "__main__":
    _main(int(sys.argv[1]))
