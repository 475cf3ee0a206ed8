"""The table of contents of zip archives, beside Python's own reader."""

from __future__ import annotations

import io
import struct
import zipfile

import pytest
from support.weights_files import write

from gluondense.weights.formats.tensor_index import BadFile, Source
from gluondense.weights.formats.torch.zip_directory import read_table

NAMES = {"net/data.pkl": b"index", "net/data/0": b"x" * 100, "net/größe": b"", "net/empty/": b""}


def archive(comment: bytes = b"", **options) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as made:
        for name, content in NAMES.items():
            made.writestr(name, content)
        made.comment = comment
    return file.getvalue()


def table(folder, content: bytes):
    with open(write(folder, content), "rb") as file:
        return read_table(Source(file))


@pytest.fixture(params=[False, True], ids=["zip", "zip64"])
def limits(request, monkeypatch):
    """An archive as a large one, whose numbers are in extra fields."""
    if request.param:
        monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 10)
        monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    return request.param


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("comment", [b"", b"said about it"])
def test_reads_what_python_reads(tmp_path, limits, method, comment):
    content = archive(comment, compression=method)
    assert (b"PK\6\6" in content) == limits
    with zipfile.ZipFile(io.BytesIO(content)) as read:
        expected = {
            row.filename: (row.flag_bits, row.compress_type, row.CRC, row.compress_size,
                           row.file_size, row.header_offset)
            for row in read.infolist()
        }  # fmt: skip
    assert table(tmp_path, content) == expected


def test_refuses_half_a_table(tmp_path, limits):
    content = archive()
    first = content.index(b"PK\1\2")
    end = content.index(b"PK\6\6" if limits else b"PK\5\6")
    for damaged in (
        content[:first] + content[first + 46 :],
        content[:first] + b"PK\7\7" + content[first + 4 :],
        content[:end] + b"\0" + content[end:],
        content[: first + 28] + b"\xff\xff" + content[first + 30 :],
        content[:-22],
        content + b"\0",
        b"\0" + content,
    ):
        with pytest.raises(BadFile, match="is truncated or damaged"):
            table(tmp_path, damaged)


def test_refuses_numbers_that_are_missing(tmp_path):
    content = archive()
    at = content.index(b"PK\1\2") + 24
    with pytest.raises(BadFile, match="no sound table of contents"):
        table(tmp_path, content[:at] + b"\xff" * 4 + content[at + 4 :])


def test_refuses_a_table_of_gigabytes(tmp_path):
    path = tmp_path / "net.pth"
    size = 1 << 32
    with open(path, "wb") as file:
        file.truncate(size)
        file.seek(size)
        file.write(struct.pack("<4s6xHLLH", b"PK\5\6", 0xFFFF, size - 1, 1, 0))
    with open(path, "rb") as file, pytest.raises(BadFile, match="no sound table of contents"):
        read_table(Source(file))


def test_counts_do_not_matter_more_than_rows(tmp_path):
    content = bytearray(archive())
    at = content.rindex(b"PK\5\6")
    struct.pack_into("<H", content, at + 10, 3)
    with pytest.raises(BadFile, match="no sound table of contents"):
        table(tmp_path, bytes(content))
