# SPDX-License-Identifier: Apache-2.0
"""What a shared library of Linux needs and contains, read without loading it.

The formats are those of the System V ABI (64 bits, little-endian) and, for GPU code, of the
containers that CUDA's ``fatbinary`` tool writes. NVIDIA publishes no description of the latter; the
offsets agree with what ``cuobjdump --list-elf`` and ``--list-ptx`` list.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import NamedTuple, Union

__all__ = ["GPUCode", "gpu_code", "needed_libraries"]

DYNAMIC, NEEDED = 6, 1  # section type, tag of an entry of the dynamic section
FATBIN_MAGIC = 0xBA55ED50
PTX, MACHINE_CODE = 1, 2


class GPUCode(NamedTuple):
    """The compute capabilities, such as (8, 6), of a library's machine code and of its PTX."""

    machine: tuple[tuple[int, int], ...]
    ptx: tuple[tuple[int, int], ...]

    def runs_on(self, capability: tuple[int, int]) -> bool:
        """Return whether a GPU of this compute capability can run the code.

        Machine code runs on GPUs of the same major and an equal or higher minor number. The driver
        compiles PTX for all later GPUs.

        Examples
        --------
        >>> code = GPUCode(machine=((5, 0), (8, 6)), ptx=())
        >>> code.runs_on((8, 9)), code.runs_on((9, 0)), code.runs_on((8, 0))
        (True, False, False)
        """
        major, minor = capability
        return any(m == major and n <= minor for m, n in self.machine) or any(
            oldest <= capability for oldest in self.ptx
        )


class _Section(NamedTuple):
    name: str
    type: int
    offset: int
    size: int
    link: int


def needed_libraries(path: Union[str, Path]) -> list[str]:
    """Return the names of the libraries that the loader must find for this one."""
    with _mapped(path) as data:
        sections = _sections(data)
        dynamic = next(section for section in sections if section.type == DYNAMIC)
        strings = sections[dynamic.link]
        end = dynamic.offset + dynamic.size
        entries = struct.iter_unpack("<qQ", data[dynamic.offset : end])
        return [_text(data, strings.offset + value) for tag, value in entries if tag == NEEDED]


def gpu_code(path: Union[str, Path]) -> GPUCode:
    """Return which GPUs a library contains code for; empty for a library without CUDA."""
    found: dict[int, set[tuple[int, int]]] = {MACHINE_CODE: set(), PTX: set()}
    with _mapped(path) as data:
        for section in _sections(data):
            if section.name == ".nv_fatbin":
                for kind, architecture in _fatbin_entries(data, section):
                    found.setdefault(kind, set()).add(divmod(architecture, 10))
    return GPUCode(tuple(sorted(found[MACHINE_CODE])), tuple(sorted(found[PTX])))


def _mapped(path: Union[str, Path]) -> mmap.mmap:
    with Path(path).open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if data[:6] != b"\x7fELF\x02\x01":
        raise ValueError(f"{path} is not a 64-bit ELF library.")
    return data


def _sections(data: mmap.mmap) -> list[_Section]:
    (table,) = struct.unpack_from("<Q", data, 40)
    size, count, names = struct.unpack_from("<HHH", data, 58)
    headers = [
        struct.unpack_from("<IIQQQQI", data, table + number * size) for number in range(count)
    ]
    strings = headers[names][4]
    return [
        _Section(_text(data, strings + name), type_, offset, length, link)
        for name, type_, _, _, offset, length, link in headers
    ]


def _text(data: mmap.mmap, start: int) -> str:
    return data[start : data.find(b"\0", start)].decode()


def _fatbin_entries(data: mmap.mmap, section: _Section) -> list[tuple[int, int]]:
    """Return kind and architecture, such as 86, of each entry of the section's containers."""
    entries = []
    position, end = section.offset, section.offset + section.size
    while position + 16 <= end:
        magic, _, header, length = struct.unpack_from("<IHHQ", data, position)
        if magic != FATBIN_MAGIC:  # padding between containers
            position += 8
            continue
        entry, position = position + header, position + header + length
        while entry + 32 <= position:
            kind, _, entry_header, payload = struct.unpack_from("<HHIQ", data, entry)
            (architecture,) = struct.unpack_from("<I", data, entry + 28)
            entries.append((kind, architecture))
            entry += entry_header + payload
    return entries
