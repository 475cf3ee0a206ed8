"""CUDA libraries, drivers and GPUs, with libraries compiled here in place of NVIDIA's."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys

import pytest
from support.nvidia_stubs import DRIVER, compile_library

from gluondense.environment import cuda
from gluondense.environment.cuda import CU112, GPU, LIBRARIES, FoundLibrary
from gluondense.environment.gpu import gpu_problem, prepare_gpu, unsupported

needs_compiler = pytest.mark.skipif(not shutil.which("gcc"), reason="there is no gcc")


def output(code, **environment):
    command = [sys.executable, "-c", f"from gluondense.environment import cuda; {code}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_extra_has_the_packages_of_the_table(root):
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    extra = re.search(r"^cuda11 = \[(.*?)^\]", text, re.DOTALL | re.MULTILINE)[1]
    packages = {row.package for row in LIBRARIES.values() if row.package}
    assert set(re.findall(r'"(.*?)"', extra)) == packages


@needs_compiler
def test_the_driver_names_its_gpus(tmp_path):
    compile_library(tmp_path / "libcuda.so.1", DRIVER.replace("STATUS", "0"))
    code = "print(cuda.find_gpus(), cuda.find_library('libcuda.so.1'))"
    found = FoundLibrary("libcuda.so.1", str(tmp_path / "libcuda.so.1"), 12040)
    expected = f"{[GPU('NVIDIA H200', (9, 0))]} {found}"
    assert output(code, LD_LIBRARY_PATH=str(tmp_path), PATH="") == expected


@needs_compiler
def test_nvidia_smi_is_asked_where_the_driver_does_not_answer(tmp_path):
    compile_library(tmp_path / "libcuda.so.1", DRIVER.replace("STATUS", "999"))
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'Tesla T4, 7.5'\necho 'Old, [N/A]'\n")
    program.chmod(0o755)
    found = output("print(cuda.find_gpus())", LD_LIBRARY_PATH=str(tmp_path), PATH=str(tmp_path))
    assert found == str([GPU("Tesla T4", (7, 5)), GPU("Old", None)])
    program.unlink()
    assert output("print(cuda.find_gpus())", PATH=str(tmp_path)) == "[]"


@needs_compiler
def test_libraries_of_pip_are_loaded(tmp_path, root):
    """MXNet's loader finds libraries in site-packages/nvidia only if they are loaded before."""
    site = tmp_path / "site"
    compile_library(
        site / "nvidia/nccl/lib/libnccl.so.2", "int ncclGetVersion(int* v) { return 1; }"
    )
    libmxnet = site / "mxnet/libmxnet.so"
    libmxnet.parent.mkdir()
    (site / "mxnet/__init__.py").touch()
    command = ["gcc", "-shared", "-o", libmxnet, "-Wl,--no-as-needed"]
    subprocess.run([*command, site / "nvidia/nccl/lib/libnccl.so.2"], check=True)
    code = "import ctypes; PRELOAD; print(ctypes.CDLL(cuda.mxnet_library())._name)"
    path = f"{site}:{root}"
    loaded = output(code.replace("PRELOAD", "cuda.preload()"), PYTHONPATH=path)
    assert loaded == str(libmxnet)
    with pytest.raises(subprocess.CalledProcessError) as caught:
        output(code.replace("PRELOAD", "pass"), PYTHONPATH=path)
    assert "libnccl.so.2" in caught.value.stderr


@pytest.mark.parametrize("capability", [(5, 0), (6, 1), (7, 5), (8, 0), (8, 6), (8, 9), None])
def test_gpus_that_mxnet_can_use(capability):
    assert unsupported(GPU("card", capability), CU112) is None


@pytest.mark.parametrize("capability", [(3, 7), (9, 0), (10, 0), (12, 0)])
def test_gpus_that_mxnet_cannot_use(capability):
    message = unsupported(GPU("card", capability), CU112)
    assert message.startswith("card has compute capability {}.{}, ".format(*capability))
    assert "this MXNet has code for 5.0, 6.0, 7.0, 8.0, 8.6 only: export to ONNX" in message


def test_a_gpu_without_code_is_refused_before_anything_runs_there(monkeypatch):
    import mxnet as mx

    class Features:
        def is_enabled(self, name):
            return name == "CUDA"

    monkeypatch.setattr(mx.runtime, "Features", Features)
    monkeypatch.setattr(mx.context, "num_gpus", lambda: 1)
    monkeypatch.setattr(cuda, "mxnet_gpu_code", lambda library: CU112)
    monkeypatch.setattr(cuda, "find_gpus", lambda: [GPU("NVIDIA H200", (9, 0))])
    assert gpu_problem(0).startswith("NVIDIA H200 has compute capability 9.0")
    assert gpu_problem(1) == "MXNet finds 1 GPU (see gluondense doctor)"
    monkeypatch.setattr(cuda, "find_gpus", lambda: [GPU("NVIDIA A100", (8, 0))])
    assert gpu_problem(0) is None


# NVRTC of CUDA 11.2, as far as it concerns us.
NVRTC = """
static const int archs[] = {35, 50, 60, 70, 80, 86};
int nvrtcGetNumSupportedArchs(int* count) { *count = 6; return 0; }
int nvrtcGetSupportedArchs(int* found) {
  for (int i = 0; i < 6; ++i) found[i] = archs[i];
  return 0;
}
"""


@needs_compiler
@pytest.mark.parametrize(
    ("capability", "value", "expected"),
    [((8, 6), None, None), ((8, 9), None, "0"), ((8, 9), "1", "1"), (None, None, None)],
)
def test_operators_are_not_fused_on_gpus_that_nvrtc_does_not_know(
    tmp_path, monkeypatch, capsys, capability, value, expected
):
    library = tmp_path / "libnvrtc.so.11.2"
    compile_library(library, NVRTC)
    monkeypatch.setattr(cuda, "find_gpus", lambda: [GPU("NVIDIA L4", capability)])
    monkeypatch.setattr(cuda, "mxnet_library", lambda: tmp_path)
    monkeypatch.setattr(cuda, "cuda_libraries", lambda _: ("libcuda.so.1", library.name))
    monkeypatch.setattr(cuda, "_load", lambda name: ctypes.CDLL(str(tmp_path / name)))
    assert cuda.nvrtc_capabilities(tmp_path) == ((3, 5), (5, 0), (6, 0), (7, 0), (8, 0), (8, 6))
    monkeypatch.delenv("MXNET_USE_FUSION", raising=False)
    if value:
        monkeypatch.setenv("MXNET_USE_FUSION", value)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    prepare_gpu(0)
    prepare_gpu(1)  # there is none
    assert os.environ.get("MXNET_USE_FUSION") == expected
    printed = capsys.readouterr().err
    assert ("compute capabilities up to 8.6" in printed) == (expected == "0")
