"""The wheel of mxnet-cu112 on a machine without a GPU, with stubs of NVIDIA's libraries.

`make test-cu112` runs it: the wheel has 500 MB. Its environment is made in ``GLUONDENSE_VENVS``,
else ``.cache/pythons``, and has this environment's other packages.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from support.gpu_commands import GPU_COMMANDS
from support.nvidia_stubs import stubs
from support.paths import ROOT

pytestmark = pytest.mark.cu112

COMMANDS = (
    "doctor",
    "models",
    "stats densenet121",
    "predict densenet121.tv_in1k image.png",
    "export densenet121.tv_in1k",
    "demo densenet121.tv_in1k",
    "explain cam densenet121.tv_in1k image.png",
    "archive net net.mar",
    "report run",
    "save-samples run",
)
BENCHMARK = (str(ROOT / "scripts/benchmark.py"), "--gpu", "densenet121")
NO_GPU, MISMATCH = 100, 803  # cudaErrorNoDevice, cudaErrorSystemDriverMismatch


@pytest.fixture(scope="module")
def cu112() -> Path:
    """The interpreter of an environment with mxnet-cu112."""
    folder = Path(os.environ.get("GLUONDENSE_VENVS", ROOT / ".cache/pythons")) / "cu112"
    python = folder / "bin/python"
    if not (folder / "ready").exists():
        pip = [python, "-m", "pip", "install", "--quiet", "--no-compile", "--no-deps"]
        for command in (
            [sys.executable, "-m", "venv", "--clear", folder],
            [*pip, "mxnet-cu112==1.9.1"],
        ):
            subprocess.run(command, check=True, timeout=1200)
        (folder / "ready").touch()
    # The packages of this environment stand behind those of the new one.
    own = sysconfig.get_path("purelib")
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    lines = f"{ROOT}\nimport site; site.addsitedir({own!r})\n"
    (folder / "lib" / version / "site-packages/others.pth").write_text(lines)
    return python


def run(python: Path, words: tuple[str, ...], folder: Path, libraries: Path | None):
    command = words if words[0].endswith(".py") else ("-m", "gluondense", *words)
    # PYTHONPATH would put the other MXNet in front.
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment["LD_LIBRARY_PATH"] = str(libraries or "")
    return subprocess.run(
        [python, *command], cwd=folder, env=environment, capture_output=True, text=True
    )


def the_line(done) -> str:
    """The only line of the errors of a command that failed as it should."""
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def doctor(python: Path, folder: Path, libraries: Path | None) -> dict[str, dict[str, str]]:
    done = run(python, ("doctor", "--json"), folder, libraries)
    assert (done.returncode, done.stderr) == (1, "")
    return {line["name"]: line for line in json.loads(done.stdout)}


@pytest.fixture(scope="module")
def no_gpu(cu112, tmp_path_factory) -> Path:
    if not shutil.which("gcc"):
        pytest.skip("there is no gcc")
    return stubs(cu112, tmp_path_factory.mktemp("stubs") / "no-gpu", NO_GPU)


@pytest.mark.parametrize("words", [*GPU_COMMANDS, BENCHMARK], ids=" ".join)
def test_without_libraries_each_command_with_gpus_is_one_line(words, cu112, tmp_path):
    assert "gluondense doctor" in the_line(run(cu112, words, tmp_path, None))


@pytest.mark.parametrize("line", [line for line in COMMANDS if line != "doctor"])
def test_without_libraries_the_other_commands_are_one_line(line, cu112, tmp_path):
    done = run(cu112, tuple(line.split()), tmp_path, None)
    if line == "models":  # needs no MXNet
        assert done.returncode in (0, 2)
    assert done.returncode == 0 or the_line(done).startswith("error: ")


def test_without_libraries_doctor_names_them(cu112, tmp_path):
    lines = doctor(cu112, tmp_path, None)
    for name in ("MXNet", "NVIDIA driver", "CUDA libraries", "GPUs"):
        assert lines[name]["status"] == "wrong"
    for library in ("libcudnn.so.8", "libnccl.so.2", "libcudart.so.11.0", "libnvrtc.so.11.2"):
        assert library in lines["CUDA libraries"]["value"]
    assert "gluondense[cuda11]" in lines["CUDA libraries"]["advice"]
    assert "5.0, 6.0, 7.0, 8.0, 8.6" in lines["GPUs"]["value"]


@pytest.mark.parametrize("words", [*GPU_COMMANDS, BENCHMARK], ids=" ".join)
def test_without_a_gpu_each_command_with_gpus_is_one_line(words, cu112, no_gpu, tmp_path):
    assert "MXNet finds no GPUs (see gluondense doctor)" in the_line(
        run(cu112, words, tmp_path, no_gpu)
    )


def test_without_a_gpu_doctor_says_so(cu112, no_gpu, tmp_path):
    lines = doctor(cu112, tmp_path, no_gpu)
    assert lines["MXNet"]["status"] == "ok"
    assert lines["MXNet features"]["value"].startswith("CUDA, CUDNN, NCCL, MKLDNN")
    assert lines["GPUs"]["status"] == "wrong"
    assert "pip install mxnet==1.9.1" in lines["GPUs"]["advice"]


def test_without_a_gpu_it_trains_on_the_cpu(cu112, no_gpu, tmp_path):
    words = (
        "train fashion-mnist --recipe demo --fallback-digits --max-steps 2 --out run --no-native"
    )
    done = run(cu112, tuple(words.split()), tmp_path, no_gpu)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/report.html").exists()


def test_an_error_of_the_driver_is_one_line(cu112, tmp_path):
    libraries = stubs(cu112, tmp_path / "stubs", MISMATCH)
    line = the_line(run(cu112, GPU_COMMANDS[0], tmp_path, libraries))
    assert "GPU 0 can't be used: error 803. Omit --gpus" in line
    assert doctor(cu112, tmp_path, libraries)["NVIDIA driver"]["status"] == "wrong"


def test_a_hopper_card_is_refused_before_anything_runs_there(cu112, tmp_path):
    libraries = stubs(cu112, tmp_path / "stubs", NO_GPU, hopper=True)
    line = the_line(run(cu112, GPU_COMMANDS[0], tmp_path, libraries))
    reason = "GPU 0 can't be used: NVIDIA H200 has compute capability 9.0, this MXNet has code for"
    assert reason in line
    gpus = doctor(cu112, tmp_path, libraries)["GPUs"]
    assert gpus["status"] == "wrong"
    assert "TensorRT or ONNX Runtime" in gpus["advice"]
