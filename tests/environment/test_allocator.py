# SPDX-License-Identifier: Apache-2.0
"""Large arrays have their own pages after map_large_arrays."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

# Prints whether a new array of 1 MB is in the heap. Freeing a mapped array of 16 MB lets glibc
# take smaller ones from the heap.
SCRIPT = """
import sys
import numpy as np
from gluondense.environment.allocator import map_large_arrays
array = np.ones(2**21)
del array
if "set" in sys.argv:
    map_large_arrays()
address = np.ones(2**17)
place = address.ctypes.data
with open("/proc/self/maps") as file:
    ranges = [line.split()[0].split("-") for line in file if "[heap]" in line]
print(any(int(first, 16) <= place < int(last, 16) for first, last in ranges))
"""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")


def is_in_heap(*arguments, **variables):
    command = [sys.executable, "-c", SCRIPT, *arguments]
    environment = {**os.environ, **variables}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    ).stdout


def test_large_arrays_are_mapped():
    assert is_in_heap() == "True\n"
    assert is_in_heap("set") == "False\n"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MALLOC_MMAP_THRESHOLD_", "33554432"),
        ("GLIBC_TUNABLES", "glibc.malloc.mmap_threshold=33554432"),
    ],
)
def test_a_users_setting_is_kept(name, value):
    assert is_in_heap("set", **{name: value}) == "True\n"
