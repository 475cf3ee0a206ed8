"""Damaged files that a reader once refused wrongly, each with the line that refuses it now."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import NamedTuple

import pytest
from fuzz.mutation import Files
from fuzz.reader import try_reading, write
from fuzz.worker import READERS
from PIL import Image

from gluondense.data.files import decode

DEEP = b"[" * 100_000


class Case(NamedTuple):
    """An edit of a valid file: new content, or a function of the old one."""

    reader: str
    file: str
    edit: bytes | Callable[[bytes], bytes]
    message: str
    seed: int = 0


def replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def edit(content: bytes) -> bytes:
        assert old in content
        return content.replace(old, new)

    return edit


def with_value(*path: str, value: object) -> Callable[[bytes], bytes]:
    """Set a value in JSON."""

    def edit(content: bytes) -> bytes:
        root = node = json.loads(content)
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = value
        return json.dumps(root).encode()

    return edit


def with_length(length: int) -> Callable[[bytes], bytes]:
    """Set the length of the first record."""
    return lambda content: content[:4] + struct.pack("<I", length) + content[8:]


LONG = b"x" * 200_000
WIDE = b",".join(b"%d" % n for n in range(100_000)) + b"\n" + b"," * 99_999 + b"x\n"
CASES = (
    Case("weights into a network", "net.weights", replaced(b".gamma", b"\x1b[33m\r"), "x1b", 1),
    Case("names of parameters (json)", "names.json", DEEP, "is not JSON"),
    Case("names of parameters (json)", "names.json", b'{"output": 3}', "must map names to names"),
    Case(
        "names of parameters (json)", "names.json", b'{"output{1}": "a"}', "invalid names in braces"
    ),
    Case(
        "names of parameters (json)",
        "names.json",
        b'{"output{%s}": "a"}' % (b"9" * 2000),
        "invalid names in braces",
    ),
    Case("names of parameters (json)", "names.json", b'{"output": "{i}"}', "its pattern has none"),
    Case(
        "export, its metadata",
        "net.json",
        with_value("spec", "eps", value="x" * 2000),
        "eps .='xxx",
        1,
    ),
    Case(
        "export, its metadata",
        "net.json",
        with_value("spec", "classes", value="x"),
        "classes .='x'",
        1,
    ),
    Case(
        "export, its metadata",
        "net.json",
        with_value("format", value=[LONG.decode()]),
        "has format",
    ),
    Case(
        "export, its parameters with checksums",
        "net-0000.params",
        lambda data: data[:-9],
        "truncated",
    ),
    Case(
        "export, its graph with checksums",
        "net-symbol.json",
        replaced(b"Convolution", b"Revolution"),
        "is not a graph of MXNet",
    ),
    Case(
        "export, its graph with checksums",
        "net-symbol.json",
        replaced(b"stage1", b"stage9"),
        "is not a graph of MXNet",
    ),
    Case(
        "ONNX model with checksums",
        "net.onnx",
        lambda data: data[:99] + b"\x1b" + data[99:],
        "ONNX Runtime can't load",
    ),
    Case("archive .mar", "net.mar", lambda data: data[100:], "is not a sound archive"),
    Case(
        "archive .mar",
        "net.mar",
        replaced(b"net-symbol", b"\xff" + b"\x1b[3m" * 2 + b"!"),
        "is refused|not a sound archive",
    ),
    Case("archive .mar, its members", "net.json", DEEP, r"net\.mar: net\.json does not describe"),
    Case("archive .mar, its members", "MAR-INF/MANIFEST.json", DEEP, "its manifest is not JSON"),
    Case(
        "RecordIO .rec",
        "a.rec",
        lambda data: data[:12] + b"\0\0\xc0\x7f" + data[16:],
        "the label nan",
    ),
    Case(
        "RecordIO .rec",
        "a.rec",
        lambda data: data[:12] + b"\0\0\x80\x7f" + data[16:],
        "the label inf",
    ),
    Case("RecordIO .idx, .lst, .classes.txt", "a.idx", b"9" * 30 + b"\t0\n", "not an index"),
    Case("RecordIO .idx, .lst, .classes.txt", "a.idx", b"0\t-8\n", "the negative number -8"),
    Case(
        "RecordIO .idx, .lst, .classes.txt",
        "a.classes.txt",
        b"cat\n\xff",
        "line 2 has the byte 0xff",
    ),
    Case("RecordIO .idx, .lst, .classes.txt", "a.lst", b"0\tinf\ta.png\n", "the label inf", 1),
    Case(
        "RecordIO .idx, .lst, .classes.txt",
        "a.idx",
        b"0\t%d\n" % (2**63 - 1),
        "is truncated or not the file of",
    ),
    Case("RecordIO .rec without index", "a.rec", with_length(2**29 - 1), "ends within the record"),
    Case("RecordIO .lst", "a.lst", b"0\t0\t\xff.png\n", "line 1 has the byte 0xff"),
    Case("RecordIO .lst", "a.lst", b"0\t16000000\ta.png\n", "integers from 0 to 1048575"),
    Case("RecordIO .lst", "a.lst", b"0\tnan\ta.png\n", "the label nan"),
    Case("RecordIO .lst", "a.lst", b"0\t-1\t" + LONG + b"\n", "the label -1"),
    Case("RecordIO, interrupted", "b.job.part", b"{", "is not JSON"),
    Case("RecordIO, interrupted", "b.job.part", b'{"\xff', "is not UTF-8"),
    Case("RecordIO, interrupted", "b.skipped.part", b"0\t\xff\tx\n", "is damaged; remove b"),
    Case("RecordIO, interrupted", "b.skipped.part", b"x\n", "is damaged; remove b"),
    Case(
        "RecordIO, interrupted",
        "b.idx.part",
        replaced(b"2\t172", b"7\t172"),
        "is damaged; remove b",
    ),
    Case("csv", "a.csv", replaced(b"label", b"lab\x1bl"), r"lab\\x1bl"),
    Case("csv", "a.csv", b"a," * 400_000 + b"b\n", "has two columns 'a'"),
    Case("csv", "a.csv", LONG[:99_999] + b",label,split\na,b,c\n", "no column 'path'"),
    Case("csv", "a.csv", WIDE, "row 1 has no column"),
    Case("csv", "a.csv", replaced(b"val", LONG[:99_999]), "has an unknown split 'xx"),
    Case("run, its splits", "split.csv", replaced(b"split", b"part"), "is damaged .'split'"),
    Case("run, its splits", "split.csv", replaced(b"a/1", LONG), "field larger than field limit"),
    Case("ground truth (txt, csv)", "truth.txt", b"n01\n\xff\n", "line 2 has the byte 0xff"),
    Case(
        "ground truth (txt, csv)",
        "truth.txt",
        replaced(b"PredictionString", b"x"),
        "line 2 has no ImageId",
    ),
    Case(
        "ground truth (txt, csv)",
        "truth.txt",
        replaced(b",n01 1 2 3 4", b""),
        "line 2 has no ImageId",
    ),
    Case(
        "ground truth (txt, csv)",
        "truth.txt",
        replaced(b"n01 1 2 3 4", b""),
        "line 2 has no ImageId",
    ),
    Case(
        "ground truth (txt, csv)",
        "truth.txt",
        replaced(b" 1\n", b" 99999999\n"),
        "the label 99999999",
        1,
    ),
    Case(
        "ground truth, its meta.mat",
        "meta.mat",
        lambda data: data[:300],
        "not the development kit's",
    ),
    Case(
        "ground truth, its meta.mat",
        "meta.mat",
        replaced(b"synsets", b"SYNSETS"),
        "not the development kit's",
    ),
    Case(
        "CIFAR (bin, tar.gz)",
        "cifar-10-binary.tar.gz",
        lambda data: data[:90] + b"\0" * 99,
        "is damaged",
    ),
    Case("run, its configuration", "config.json", DEEP, "is not JSON"),
    Case("run, its configuration", "config.json", b"[]", "must be an object"),
    Case("run, its log", "log.csv", replaced(b"epoch", b"epic"), "names no column 'epoch'"),
    Case("run, its predictions", "answers.npz", lambda data: data[:-40], "is damaged"),
    Case("run, its predictions", "answers.npz", b"PK" + bytes(99), "is damaged .Cannot"),
    Case("checkpoint", "model.json", DEEP, "is not JSON"),
    Case("checkpoint", "model.json", with_value("epoch", value=3), "content_sha256: it is damaged"),
    Case(
        "checkpoint",
        "model.json",
        with_value("progress", value={"batch": 0.5}),
        "numbers, those of",
        1,
    ),
    Case("checkpoint", "model.json", with_value("progress", value={}), "lacks 'batch'", 1),
    Case("checkpoint", "model.json", with_value("sha256", value=[]), "a SHA-256 of each file", 1),
    Case(
        "checkpoint",
        "model.json",
        with_value("spec", "growth_rate", value=0),
        "describes no network",
        1,
    ),
    Case(
        "checkpoint",
        "model.json",
        with_value("spec", "growth_rate", value=9),
        "other weights than",
        1,
    ),
    Case("checkpoint", "model.json", with_value("model", value="net"), "describes no network", 1),
    Case(
        "checkpoint",
        "model.json",
        with_value("spec", "num_init_features", value=2**32 + 1),
        "describes no network",
        1,
    ),
    Case("checkpoint", "model.json", with_value("mean", value=None), "a list of numbers", 1),
    Case("hosts", "hosts", b"\xff", "is not UTF-8"),
    Case("hosts", "hosts", b"a." * 40 + b"." + b"a" * 80, "has no address"),
    Case("hosts", "hosts", b"a b " + LONG, r"is not NAME \[ADDRESS\]"),
)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """Return a function: the valid files of a reader, made once."""
    made = {}

    def of(name: str) -> list[Files]:
        make = READERS[name].seeds
        if make not in made:
            made[make] = list(make(tmp_path_factory.mktemp("seeds")))
        return made[make]

    return of


@pytest.fixture(autouse=True)
def limits_of_pixels(monkeypatch):
    """Restore the limits, which readers of images lower."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    monkeypatch.setattr(decode, "MAX_PIXELS", decode.MAX_PIXELS)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.reader}: {case.message}")
def test_is_refused_in_one_line_that_names_the_file(seeds, tmp_path, case):
    reader = READERS[case.reader]
    files = dict(seeds(case.reader)[case.seed])
    files[case.file] = case.edit(files[case.file]) if callable(case.edit) else case.edit
    files = reader.pack(files)
    write(tmp_path, files)
    assert try_reading(reader, tmp_path, files) is False
    write(tmp_path, files)  # a reader may have changed them
    with pytest.raises((ValueError, OSError), match=case.message):
        reader.read(tmp_path)


@pytest.mark.parametrize("name", READERS)
def test_valid_files_are_read(seeds, tmp_path, name):
    for files in map(READERS[name].pack, seeds(name)):
        write(tmp_path, files)
        READERS[name].read(tmp_path)
