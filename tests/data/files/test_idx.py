from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest

from gluondense.data.files.idx import parse_idx, unpack

LABELS = bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9])
NAME = "folder/t10k-labels-idx1-ubyte"


def parse(content: bytes) -> np.ndarray:
    return parse_idx(unpack(content, NAME), NAME)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_reads_labels_and_images(pack):
    assert parse(pack(LABELS)).tolist() == [7, 8, 9]
    array = parse(pack(bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 1, 2, 3, 4])))
    assert array.dtype == np.uint8
    assert array.tolist() == [[[1, 2]], [[3, 4]]]


def test_reads_big_endian_numbers_of_several_bytes():
    array = parse(bytes([0, 0, 0x0C, 1, 0, 0, 0, 2]) + struct.pack(">2i", -5, 70000))
    assert array.dtype == np.int32
    assert array.tolist() == [-5, 70000]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "truncated: it has only 0 bytes"),
        (LABELS[:3], "truncated: it has only 3 bytes"),
        (LABELS[:6], "truncated: it ends within its header"),
        (LABELS[:-1], "truncated: its header announces 11 bytes, it has 10"),
        (LABELS + b"!", "too long: its header announces 11 bytes, it has 12"),
        (b"\x89PNG" + LABELS, "not an idx file: it begins with 89504e47"),
        (bytes([0, 0, 7, 1]) + LABELS[4:], "not an idx file: it begins with 00000701"),
        (gzip.compress(LABELS, mtime=0)[:-9], "truncated: its gzip stream ends early"),
        (gzip.compress(LABELS, mtime=0)[:5], "truncated: its gzip stream ends early"),
        (gzip.compress(LABELS, mtime=0)[:-8] + bytes(8), "corrupt"),
        (gzip.compress(LABELS, mtime=0) + b"tail", "corrupt"),
        (
            gzip.compress(LABELS[:-1], mtime=0),
            "truncated: its header announces 11 bytes, it has 10",
        ),
    ],
)
def test_refuses_bad_files_by_name(content, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse(content)
    assert NAME in str(caught.value)
    assert "\n" not in str(caught.value)
