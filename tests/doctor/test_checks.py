"""The checks of `gluondense doctor`, on facts of other machines than this one."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from gluondense.doctor import processor_checks
from gluondense.doctor.check import NOTE, OK, WRONG, run_checks
from gluondense.doctor.facts import Facts, distributions, run_probe
from gluondense.environment.cuda import CU112, GPU, LIBRARIES, FoundLibrary

NAMES = ("libcuda.so.1", "libcudart.so.11.0", "libcudnn.so.8", "libnccl.so.2", "libcublas.so.11")
VERSIONS = (12040, 11080, 8906, 22105, None)
PROBE = {"version": "1.9.1", "features": ["MKLDNN", "OPENMP"], "patches": [], "gpus": []}
PROBE["native"] = {"compiler": "g++", "sets": {"base": []}, "built": True}

CPU = Facts(mxnet={"mxnet": "1.9.1"}, probe=PROBE)
LIBRARIES_FOUND = tuple(FoundLibrary(*row) for row in zip(NAMES, NAMES, VERSIONS))
AMPERE = Facts(
    mxnet={"mxnet-cu112": "1.9.1"},
    probe={**PROBE, "features": ["CUDA", "CUDNN", "NCCL", "MKLDNN"], "gpus": [None]},
    libraries=LIBRARIES_FOUND,
    code=CU112,
    gpus=(GPU("NVIDIA A100", (8, 0)),),
)
HOPPER = GPU("NVIDIA H200", (9, 0))


def lines(facts):
    return {line.name: line for line in run_checks(facts)}


def missing(*prefixes):
    return tuple(
        found._replace(error="cannot open shared object file")
        if found.name.startswith(prefixes)
        else found
        for found in LIBRARIES_FOUND
    )


def test_a_cpu_build_needs_nothing_of_cuda():
    found = lines(CPU)
    subjects = ("MXNet", "MXNet features", "NVIDIA driver", "CUDA libraries", "GPUs")
    assert {found[name].status for name in subjects} == {OK}


def test_only_distributions_that_contain_the_library_are_mxnet(tmp_path):
    rows = (("mxnet", "mxnet/libmxnet.so"), ("mxnet-model-server", "mms/metrics.py"))
    for name, file in rows:
        folder = tmp_path / f"{name.replace('-', '_')}-1.9.1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.9.1\n")
        (folder / "RECORD").write_text(f"{file},,\n")
    assert distributions(tmp_path / "mxnet/libmxnet.so") == {"mxnet": "1.9.1"}


def test_an_ampere_card():
    found = lines(AMPERE)
    assert found["GPUs"].status == found["NVIDIA driver"].status == OK
    assert found["GPUs"].value.startswith("NVIDIA A100 (compute capability 8.0)")
    assert found["NVIDIA driver"].value == "for CUDA up to 12.4 (libcuda.so.1)"
    libraries = "CUDA 11.8, cuDNN 8.9.6, NCCL 2.21.5, cuBLAS (libcublas.so.11)"
    assert found["CUDA libraries"].value == libraries


@pytest.mark.parametrize(("facts", "status"), [(AMPERE, WRONG), (CPU, NOTE)], ids=["cu112", "cpu"])
def test_mxnet_cannot_use_a_hopper_card(facts, status):
    line = lines(replace(facts, gpus=(HOPPER,)))["GPUs"]
    assert line.status == status
    assert "NVIDIA H200 (compute capability 9.0)" in line.value
    assert "has code for 5.0, 6.0, 7.0, 8.0, 8.6" in line.value
    assert "TensorRT or ONNX Runtime (docs/gpu.md)" in line.advice


def test_a_usable_card_beside_one_that_is_not():
    facts = replace(AMPERE, gpus=(*AMPERE.gpus, HOPPER))
    facts.probe["gpus"] = [None, "NVIDIA H200 has compute capability 9.0"]
    line = lines(facts)["GPUs"]
    assert (line.status, line.advice) == (NOTE, "NVIDIA H200 has compute capability 9.0")


def test_a_cpu_build_beside_a_usable_card():
    line = lines(replace(CPU, gpus=AMPERE.gpus))["GPUs"]
    assert line.status == NOTE
    assert "pip install mxnet-cu112==1.9.1" in line.advice


def test_missing_libraries_are_named_with_their_packages():
    problem = "MXNet cannot load (libcudnn.so.8: cannot open shared object file)"
    facts = replace(AMPERE, probe={}, problem=problem, libraries=missing("libcudnn", "libnccl"))
    found = lines(facts)
    assert found["MXNet"].status == found["CUDA libraries"].status == WRONG
    assert found["CUDA libraries"].value == "missing: cuDNN (libcudnn.so.8), NCCL (libnccl.so.2)"
    packages = [LIBRARIES[name].package for name in ("libcudnn", "libnccl")]
    assert found["CUDA libraries"].advice.startswith(f"pip install {' '.join(packages)};")
    all_missing = replace(facts, libraries=missing("libcud", "libcub", "libn"))
    assert 'pip install "gluondense[cuda11]"' in lines(all_missing)["CUDA libraries"].advice


def test_a_machine_without_a_driver():
    facts = replace(AMPERE, probe={}, problem="x", libraries=missing("libcuda."), gpus=())
    found = lines(facts)
    assert found["NVIDIA driver"].status == found["GPUs"].status == WRONG
    assert found["CUDA libraries"].status == OK
    assert "Docker's option for GPUs" in found["NVIDIA driver"].advice
    assert "pip install mxnet==1.9.1" in found["GPUs"].advice


@pytest.mark.parametrize(
    ("version", "status", "advice"),
    [(10020, WRONG, "driver 460.27"), (11040, NOTE, "MXNET_USE_FUSION=0"), (11080, OK, "")],
)
def test_the_driver_against_the_libraries(version, status, advice):
    driver = LIBRARIES_FOUND[0]._replace(version=version)
    line = lines(replace(AMPERE, libraries=(driver, *LIBRARIES_FOUND[1:])))["NVIDIA driver"]
    assert line.status == status
    assert advice in line.advice


@pytest.mark.parametrize(
    ("names", "value", "advice"),
    [
        ({"mxnet": "1.9.1", "mxnet-cu112": "1.9.1"}, "mxnet 1.9.1, mxnet-cu112", "the same module"),
        ({}, "not installed", "pip install"),
    ],
    ids=["two", "none"],
)
def test_a_wrong_set_of_packages(names, value, advice):
    line = lines(Facts(mxnet=names, problem="MXNet is not installed: pip install x"))["MXNet"]
    assert line.status == WRONG
    assert value in line.value
    assert advice in line.advice


@pytest.mark.parametrize(
    ("variable", "status", "advice"),
    [("4", OK, ""), ("4,2", OK, ""), ("1", NOTE, "unset"), ("8", NOTE, "OMP_NUM_THREADS=4")],
)
def test_threads(variable, status, advice, monkeypatch):
    monkeypatch.setattr(processor_checks, "usable_cores", lambda: 4)
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    line = lines(CPU)["threads"]
    assert line.status == status
    assert advice in line.advice


@pytest.mark.parametrize(
    ("flags", "best"),
    [
        ("fma avx2", "avx2"),
        ("fma avx2 avx512f avx512bw avx512dq avx512vl avx512_vnni", "avx512vnni"),
        ("sse2", "base"),
    ],
)
def test_instruction_sets(flags, best, monkeypatch):
    from gluondense.native.build import X86_64

    monkeypatch.setattr(processor_checks, "_cpuinfo", lambda name: flags)
    monkeypatch.delenv("GLUONDENSE_ISA", raising=False)
    native = {"compiler": "g++", "sets": X86_64, "built": True}
    line = lines(replace(CPU, probe={**PROBE, "native": native}))["native operator"]
    assert line.status == OK
    assert line.value.startswith(f"{best} by g++; not on this processor: ")
    monkeypatch.setenv("GLUONDENSE_ISA", "avx512bf16")
    line = lines(replace(CPU, probe={**PROBE, "native": native}))["native operator"]
    assert "GLUONDENSE_ISA=avx512bf16 is not supported here" in line.value


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("import os; os.abort()", "importing MXNet ended the process with SIGABRT"),
        ("raise ImportError('MXNet cannot load')", "MXNet cannot load"),
        ("pass", "no message"),
    ],
)
def test_a_probe_that_dies_is_a_finding(code, problem):
    assert run_probe([sys.executable, "-c", code]) == ({}, problem)
