"""The compiled objects: kernels against scalar loops, and the operator's checks of its arrays.

See kernel_check.cc and operator_check.cc.
"""

from __future__ import annotations

import importlib
import os
import subprocess
from pathlib import Path

import mxnet as mx
import pytest

build = importlib.import_module("gluondense.native.build")  # native.build is a function
ISAS = build.INSTRUCTION_SETS
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory, native_operator):
    """All objects, compiled again."""
    folder = tmp_path_factory.mktemp("kernels")
    build._compile(build.find_compiler(), folder)
    return folder


def kernel_objects(folder):
    """Return the objects of all instruction sets; not all compilers know all sets."""
    stems = [f"{file.stem}_{isa}" for file in build.PER_ISA.glob("*.cc") for isa in ISAS]
    return [folder / f"{stem}.o" for stem in stems if (folder / f"{stem}.o").exists()]


def link(folder, name, objects):
    """Compile a program of this folder and link it with objects."""
    include = [f"-I{build.SOURCES}", f"-I{Path(mx.__file__).parent / 'include'}"]
    source = Path(__file__).with_name(f"{name}.cc")
    command = [*build.find_compiler(), "-std=c++17", "-fopenmp", *include, source, *objects]
    subprocess.run([*command, "-o", folder / name], check=True)
    return folder / name


@pytest.fixture(scope="module")
def kernel_check(folder):
    return link(folder, "kernel_check", [folder / "dispatch.o", *kernel_objects(folder)])


@pytest.mark.parametrize("isa", ISAS)
def test_kernels_compute_what_scalar_loops_do(kernel_check, isa):
    environment = {**os.environ, "GLUONDENSE_ISA": isa}
    done = subprocess.run([kernel_check], env=environment, capture_output=True, text=True)
    if "is not supported here" in done.stderr:
        pytest.skip(f"this processor has no {isa}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"{isa}: ")


def test_kernels_share_no_inline_functions(folder):
    """The linker would keep one instruction set's copy of such a function for all: see simd.h."""
    objects = kernel_objects(folder)
    assert objects
    command = ["nm", "--demangle", "--defined-only", *objects]
    symbols = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n")
    assert any(" T gluondense::base::conv_f32" in line for line in symbols)
    assert [line for line in symbols if line[16:19] in (" W ", " V ", " u ")] == []


def test_the_operator_refuses_arrays_of_other_sizes(folder):
    program = link(folder, "operator_check", folder.glob("*.o"))
    subprocess.run([program], check=True)
