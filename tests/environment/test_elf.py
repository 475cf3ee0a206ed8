"""Reads what libraries need and contain, without loading them."""

from __future__ import annotations

import shutil
import struct
import subprocess

import pytest

from gluondense.environment.cuda import mxnet_library
from gluondense.environment.elf import gpu_code, needed_libraries

needs_compiler = pytest.mark.skipif(not shutil.which("gcc"), reason="there is no gcc")


def library(folder, source, *options):
    file = folder / "library.so"
    command = ["gcc", "-shared", "-fPIC", "-o", file, "-x", "c", "-", *options]
    subprocess.run(command, input=source, text=True, check=True)
    return file


def entry(kind, architecture, payload):
    """An entry of a container, with a header of 64 bytes."""
    head = struct.pack("<HHIQ", kind, 0x101, 64, len(payload)).ljust(28, b"\0")
    return (head + struct.pack("<I", architecture)).ljust(64, b"\0") + payload


def container(*entries):
    body = b"".join(entries)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


@needs_compiler
def test_needed_libraries(tmp_path):
    file = library(tmp_path, "double f(void);", "-Wl,--no-as-needed", "-lm")
    assert "libm.so.6" in needed_libraries(file)


@needs_compiler
def test_gpu_code_of_all_containers(tmp_path):
    # The second container stands behind padding, and contains PTX, which is kind 1.
    code = container(entry(2, 50, b"x" * 24), entry(2, 86, b"y" * 8)) + b"\0" * 8
    code += container(entry(2, 50, b"z" * 16), entry(1, 100, b"p" * 40))
    values = ",".join(map(str, code))
    source = f'__attribute__((section(".nv_fatbin"))) const unsigned char c[] = {{{values}}};'
    found = gpu_code(library(tmp_path, source))
    assert found.machine == ((5, 0), (8, 6))
    assert found.ptx == ((10, 0),)
    assert found.runs_on((8, 9))
    assert not found.runs_on((9, 0))
    assert found.runs_on((12, 0))  # by the PTX


def test_the_installed_mxnet():
    file = mxnet_library()
    assert "libopenblas.so.0" in needed_libraries(file)
    assert bool(gpu_code(file).machine) == ("libcuda.so.1" in needed_libraries(file))


def test_other_files_are_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"\x7fELF\x01" + bytes(64))
    with pytest.raises(ValueError, match="is not a 64-bit ELF library"):
        gpu_code(tmp_path / "file")
