"""The operator ``gluondense_dense_stage`` itself: its attributes, and allocation failures."""

from __future__ import annotations

import locale
import os
import shutil
import subprocess
import sys
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from gluondense import native

pytestmark = pytest.mark.usefixtures("native_operator")

BN_RELU = {
    "layer": "pre_activation",
    "layers": 0,
    "growth": 0,
    "middle": 0,
    "tail": "norm",
    "out_channels": 0,
    "pool": 0,
    "bypass": 0,
    "recompute": 0,
    "eps": "1e-5",
    "momentum": "0.9",
    "dtype": "float32",
}
TWO_WAY = {"layer": "two_way", "tail": "maps", "layers": 1, "growth": 2, "middle": 2}


@pytest.fixture(autouse=True)
def loaded(native_operator):
    native.load(native.STAGE)


def running_mean(**attributes):
    """Train BN-ReLU on ones for one step; return the running mean, which was 0."""
    x, gamma, beta, mean, var = (
        mx.nd.full(shape, value)
        for shape, value in [((2, 4, 3, 5), 1), (4, 1), (4, 0), (4, 0), (4, 1)]
    )
    with autograd.record():
        mx.nd.gluondense_dense_stage(x, gamma, beta, mean, var, **{**BN_RELU, **attributes})
    return mean.asnumpy()


def test_momentum_weighs_the_old_statistics():
    np.testing.assert_allclose(running_mean(), np.full(4, 0.1), rtol=1e-6)
    np.testing.assert_allclose(running_mean(momentum="0.75"), np.full(4, 0.25), rtol=1e-6)


def test_numbers_are_read_in_the_c_locale(tmp_path, monkeypatch):
    if not shutil.which("localedef"):
        pytest.skip("there is no localedef to make a locale with a decimal comma")
    command = ["localedef", "-i", "de_DE", "-f", "UTF-8", str(tmp_path / "comma")]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("localedef has no definition of de_DE")
    monkeypatch.setenv("LOCPATH", str(tmp_path))
    before = locale.setlocale(locale.LC_NUMERIC)
    locale.setlocale(locale.LC_NUMERIC, "comma")
    try:
        assert locale.localeconv()["decimal_point"] == ","
        found = running_mean()
    finally:
        locale.setlocale(locale.LC_NUMERIC, before)
    np.testing.assert_allclose(found, np.full(4, 0.1), rtol=1e-6)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"layers": -1}, "layers must be an integer from 0 to 4096, not -1"),
        ({"layers": 1 << 30}, "layers must be an integer from 0 to 4096"),
        ({"growth": "many"}, "growth must be an integer from 0 to 65536, not many"),
        ({"momentum": "0,9"}, "momentum must be a number, not 0,9"),
        ({"tail": "head"}, "tail must be maps, norm or conv, not head"),
        ({"pool": 1}, "pool"),
        ({"bypass": 4}, "the input must have more channels than bypass=4, not 4"),
        ({"dtype": "float16"}, "dtype must be float32 or bfloat16, not float16"),
        ({"layer": "one_way"}, "layer must be pre_activation or two_way, not one_way"),
        ({"layer": "two_way"}, "tail must be maps or conv for layer=two_way"),
        ({**TWO_WAY, "growth": 1}, "needs a growth of at least 2"),
        ({**TWO_WAY, "middle": 3}, "a middle that is even and positive"),
    ],
    ids=str,
)
def test_wrong_attributes_are_refused(attributes, message, capfd):
    with pytest.raises(mx.base.MXNetError) as raised:
        running_mean(**attributes)
    assert message in str(raised.value) + "".join(capfd.readouterr())


def test_inputs_of_too_many_channels_are_refused(capfd):
    """Their sum with the layers' channels overflowed an int."""
    names = ("x", "gamma", "beta", "mean", "var", "weight")
    shapes = {**dict.fromkeys(names, (1,)), "x": (1, 2**31 - 1, 1, 1)}
    attributes = {**BN_RELU, "layers": 1, "growth": 65536, "tail": "maps"}
    stage = mx.sym.gluondense_dense_stage(*map(mx.sym.var, names), **attributes)
    with pytest.raises(mx.base.MXNetError) as raised:
        stage.infer_shape(**shapes)
    found = str(raised.value) + "".join(capfd.readouterr())
    assert "the input must have at most 65536 channels, not 2147483647" in found


# Ends the process with exit code 77 if the operator allocates memory in a parallel region, where an
# exception would abort the process.
SHIM = r"""
#include <dlfcn.h>
#include <omp.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <new>

void* operator new(std::size_t size) {
  Dl_info caller;
  if (omp_in_parallel() && dladdr(__builtin_return_address(0), &caller) &&
      std::strstr(caller.dli_fname, "/gluondense-")) {
    _exit(77);
  }
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
"""
TRAIN = """
import gluondense
import mxnet as mx
from mxnet import autograd

for name, dtype, fields in (
    ("densenet121", "bfloat16", {}),
    ("densenet121", "float32", {}),
    ("densenet121", "float32", {"bn_size": 0}),
    ("peleenet", "bfloat16", {"bn_sizes": (1, 1), "memory_efficient": True}),
    ("dpn68", "bfloat16", {"increments": (8, 8), "memory_efficient": True}),
    ("densenet121", "bfloat16", {"stem": "imagenet", "memory_efficient": True}),
):
    blocks = "num_blocks" if name == "dpn68" else "block_config"
    net = gluondense.get_model(name, **{"stem": "cifar", blocks: (2, 2), **fields})
    net.initialize()
    net.hybridize(backend="native", dtype=dtype)
    with autograd.record():
        out = net(mx.nd.ones((2, 3, 20, 20)))
    out.backward()
    mx.nd.waitall()
    assert "_native_graph" in net._ops
"""


def test_threads_allocate_nothing(tmp_path):
    source, shim = tmp_path / "shim.cc", tmp_path / "shim.so"
    source.write_text(SHIM)
    compiler = os.environ.get("CXX", "g++").split()
    command = [*compiler, "-shared", "-fPIC", "-O1", "-fopenmp", str(source), "-o", str(shim)]
    subprocess.run([*command, "-ldl"], check=True)
    environment = {**os.environ, "LD_PRELOAD": str(shim), "OMP_NUM_THREADS": "2"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", TRAIN], env=environment, capture_output=True, text=True
    )
    assert done.returncode != 77, "the operator allocates memory in a parallel region"
    assert done.returncode == 0, done.stderr
