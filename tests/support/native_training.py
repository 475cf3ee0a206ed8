"""Forward and backward passes of a symbol, for tests that compare training graphs."""

from __future__ import annotations

import os
import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

STATIC = {"static_alloc": True, "static_shape": True}


def random_parameters(net, seed=0):
    """Initialize a network with a different gamma and beta for each channel; return its arrays."""
    rng = np.random.default_rng(seed)
    mx.random.seed(seed)
    np.random.seed(seed)
    net.initialize()
    for name, parameter in net.collect_params().items():
        if name.endswith(("gamma", "beta")):
            mean = float(name.endswith("gamma"))
            parameter.set_data(mx.nd.array(rng.normal(mean, 0.3, parameter.shape)))
    return {name: p.data().asnumpy() for name, p in net.collect_params().items()}


def forward_backward(symbol, params, image, dtype="float32"):
    """Return the output, the gradients and the running statistics of one training step."""
    names = symbol.list_inputs()
    arrays = {k: mx.nd.array(v, dtype=dtype) for k, v in {**params, "data": image}.items()}
    for name in set(names) - set(symbol.list_auxiliary_states()):
        arrays[name].attach_grad()
    data, parameters = (
        [i for i, n in enumerate(names) if (n == "data") == is_data] for is_data in (True, False)
    )
    operator = mx.nd.CachedOp(
        symbol, [("data_indices", data), ("param_indices", parameters), *STATIC.items()]
    )
    with autograd.record():
        out = operator(*[arrays[name] for name in names])
    head = np.random.default_rng(9).normal(size=out.shape)
    out.backward(mx.nd.array(head, dtype=dtype))
    mx.nd.waitall()
    grads = {name: arrays[name] if (g := arrays[name].grad) is None else g for name in names}
    found = {name: array.asnumpy() for name, array in grads.items()}
    return {**found, "out": out.asnumpy()}


def relative_errors(found, exact):
    """Return each array's largest error, relative to the largest value of arrays of its kind."""
    kinds: dict[str, float] = {}
    for name, array in exact.items():
        kind = name.rsplit("_", 1)[-1]
        kinds[kind] = max(kinds.get(kind, 0), np.abs(array).max())
    return {
        name: np.abs(found[name] - array).max() / kinds[name.rsplit("_", 1)[-1]]
        for name, array in exact.items()
    }


def run_test_with(instructions, test):
    """Run a test in a process with another instruction set; skip if the processor lacks it."""
    environment = {**os.environ, "GLUONDENSE_ISA": instructions}
    command = [sys.executable, "-m", "pytest", "-q", "-x", test, "-p", "no:cacheprovider"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if "is not supported here" in done.stdout:
        pytest.skip(f"this processor has no {instructions}")
    assert done.returncode == 0, done.stdout
