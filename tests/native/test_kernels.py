"""The kernels of each instruction set against scalar loops: see kernel_check.cc."""

from __future__ import annotations

import importlib
import os
import subprocess
from pathlib import Path

import pytest

build = importlib.import_module("gluondense.native.build")  # native.build is a function
ISAS = build.INSTRUCTION_SETS


@pytest.fixture(scope="module")
def program(tmp_path_factory, native_operator):
    """The program that checks the kernels; compiles them all again."""
    folder = tmp_path_factory.mktemp("kernels")
    compiler = build._compiler()
    build._compile(compiler, folder)
    stems = [
        "dispatch",
        *(f"{file.stem}_{isa}" for file in build.PER_ISA.glob("*.cc") for isa in ISAS),
    ]
    objects = [folder / f"{stem}.o" for stem in stems]
    source = Path(__file__).with_name("kernel_check.cc")
    command = [*compiler, "-std=c++17", "-I", build.SOURCES, source]
    command += [file for file in objects if file.exists()]  # not all compilers know all sets
    subprocess.run([*command, "-o", folder / "check"], check=True)
    return folder / "check"


@pytest.mark.slow
@pytest.mark.parametrize("isa", ISAS)
def test_kernels_compute_what_scalar_loops_do(program, isa):
    environment = {**os.environ, "GLUONDENSE_ISA": isa}
    done = subprocess.run([program], env=environment, capture_output=True, text=True)
    if "is not supported here" in done.stderr:
        pytest.skip(f"this processor has no {isa}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"{isa}: ")
