from __future__ import annotations

import pickle

import mxnet as mx
import numpy as np
import pytest

from gluondense.data.files.recordio import (
    MAGIC,
    Record,
    RecordFile,
    end_of,
    write_record,
)

# The magic number at a multiple of 4 of the content, which begins with a header of 24 bytes.
PAYLOADS = [
    b"x",
    b"four",
    MAGIC,
    MAGIC * 3,
    b"1234" + MAGIC + b"abc",
    b"12" + MAGIC + b"34",  # at no multiple of 4: left alone
    b"1234" + MAGIC + MAGIC + b"tail" + MAGIC,
    bytes(range(256)) * 50,
]


def write(folder, payloads=PAYLOADS):
    offsets = []
    with open(folder / "a.rec", "wb") as file:
        for key, data in enumerate(payloads):
            offsets.append(file.tell())
            write_record(file, Record(key, key / 2, data))
    lines = [f"{key}\t{offset}\n" for key, offset in enumerate(offsets)]
    (folder / "a.idx").write_text("".join(lines))
    return folder / "a.rec"


def test_mxnet_writes_the_same_bytes(tmp_path):
    path = write(tmp_path)
    (tmp_path / "mx").mkdir()
    theirs = mx.recordio.MXIndexedRecordIO(
        str(tmp_path / "mx/a.idx"), str(tmp_path / "mx/a.rec"), "w"
    )
    for key, data in enumerate(PAYLOADS):
        header = mx.recordio.IRHeader(0, key / 2, key, 0)
        theirs.write_idx(key, mx.recordio.pack(header, data))
    theirs.close()
    assert (tmp_path / "mx/a.rec").read_bytes() == path.read_bytes()
    assert (tmp_path / "mx/a.idx").read_bytes() == (tmp_path / "a.idx").read_bytes()


def test_mxnet_reads_what_we_write_and_so_do_we(tmp_path):
    path = write(tmp_path)
    theirs = mx.recordio.MXIndexedRecordIO(str(tmp_path / "a.idx"), str(path), "r")
    ours = pickle.loads(pickle.dumps(RecordFile(path)))
    assert len(ours) == len(PAYLOADS)
    for key, data in enumerate(PAYLOADS):
        header, read = mx.recordio.unpack(theirs.read_idx(key))
        assert (header.label, header.id, read) == (key / 2, key, data)
        assert ours.read(key) == Record(key, key / 2, data)
    theirs.close()


def test_one_label_in_an_array_is_a_label_and_two_are_refused(tmp_path):
    file = mx.recordio.MXIndexedRecordIO(str(tmp_path / "a.idx"), str(tmp_path / "a.rec"), "w")
    for key, label in enumerate(([3.0], [1.0, 2.0])):
        header = mx.recordio.IRHeader(len(label), np.array(label, np.float32), key, 0)
        file.write_idx(key, mx.recordio.pack(header, b"data"))
    file.close()
    records = RecordFile(tmp_path / "a.rec")
    assert records.read(0) == Record(0, 3.0, b"data")
    with pytest.raises(ValueError, match=r"record 1 of .* has 2 labels"):
        records.read(1)


def test_ends_of_records(tmp_path):
    path = write(tmp_path)
    records = RecordFile(path)
    ends = [end_of(path, int(offset)) for offset in records.offsets]
    assert ends == [*records.offsets[1:].tolist(), path.stat().st_size]


def test_missing_and_damaged_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no RecordIO file .*make-recordio"):
        RecordFile(tmp_path / "a.rec")
    path = write(tmp_path)
    index = tmp_path / "a.idx"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1000])
    with pytest.raises(ValueError, match=r"damaged at byte \d+ \(the file ends within"):
        RecordFile(path).read(len(PAYLOADS) - 1)
    path.write_bytes(whole[:100])
    with pytest.raises(ValueError, match="truncated or not the file of"):
        RecordFile(path)
    path.write_bytes(b"\0" * len(whole))
    with pytest.raises(ValueError, match="no record begins there"):
        RecordFile(path).read(0)
    index.write_text("0\t0\n1")
    with pytest.raises(ValueError, match="is truncated"):
        RecordFile(path)
    index.write_text("zero\t0\n")
    with pytest.raises(ValueError, match="is not an index"):
        RecordFile(path)
    index.unlink()
    with pytest.raises(FileNotFoundError, match="no index"):
        RecordFile(path)
