"""Damaged and hostile files in PyTorch's formats."""

from __future__ import annotations

import copyreg
import os
import pickle
import struct
import tracemalloc
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.torch_files import (
    FORMATS,
    TENSORS,
    Call,
    Named,
    Storage,
    both,
    dumps,
    legacy_of,
    state_dict,
    tensor,
    zip_entries,
    zip_file,
    zip_of,
)
from support.weights_files import WEIGHT, assert_same, damaged, read, read_or_refuse, refusal, write

# Hostile pickles


def reduce_of(module, name, argument):
    return f"\x80\x02c{module}\n{name}\n".encode("latin-1") + argument + b"\x85R."


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def commands(victim):
    command = text(f"touch {victim}")
    code = text(f"__import__('os').system('touch {victim}')")
    builtins = b"c__builtin__\ngetattr\nc__builtin__\n__import__\n"
    return {
        "os.system": reduce_of("os", "system", command),
        "posix.system": reduce_of("posix", "system", command),
        "builtins.eval": reduce_of("builtins", "eval", code),
        "builtins.exec": reduce_of("builtins", "exec", code),
        "__builtin__.getattr": b"\x80\x02" + builtins + text("os") + b"\x85R" + text("system")
        + b"\x86R" + command + b"\x85R.",
        "copyreg._reconstructor": b"\x80\x02ccopyreg\n_reconstructor\ncbuiltins\nobject\n"
        b"cbuiltins\nobject\nN\x87R.",
        "subprocess.Popen": b"\x80\x02csubprocess\nPopen\n(]" + text("touch") + b"a"
        + text(str(victim)) + b"a\x85\x81.",
        "torch.load": reduce_of("torch", "load", command),
        "torch._utils._rebuild_tensor_v2.__globals__": b"\x80\x04"
        + text("torch._utils") + text("_rebuild_tensor_v2.__globals__") + b"\x93.",
        "INST": b"\x80\x02(" + command + b"ios\nsystem\n.",
        "OBJ": b"\x80\x02(cos\nsystem\n" + command + b"o.",
        "EXT1": b"\x80\x02\x82\x01" + command + b"\x85R.",
        "EXT4": b"\x80\x02\x84\x01\0\0\0" + command + b"\x85R.",
        "NEWOBJ": b"\x80\x02ccollections\nOrderedDict\n)\x81.",
        "NEWOBJ_EX": b"\x80\x04ccollections\nOrderedDict\n)}\x92.",
        "DUP": b"\x80\x02]2.",
        "PERSID": b"\x80\x02Pstorage\n.",
    }  # fmt: skip


@pytest.fixture
def extension():
    """Register `os.system` as a pickle extension."""
    copyreg.add_extension(os.system.__module__, "system", 1)
    yield
    copyreg.remove_extension(os.system.__module__, "system", 1)
    copyreg.clear_extension_cache()


@both
@pytest.mark.parametrize("what", commands("x"))
def test_executes_nothing(tmp_path, form, what, extension):
    victim = tmp_path / "victim"
    index = commands(victim)[what]
    if form == "zip":
        path = write(tmp_path, zip_of({"net/data.pkl": index}))
    else:
        path = write(tmp_path, legacy_of(index, []))
    expected = "os.system" if what in ("INST", "OBJ") else what
    assert expected in refusal(path) or what in refusal(path)
    assert not victim.exists()


@pytest.mark.parametrize("what", ["os.system", "builtins.eval", "__builtin__.getattr", "EXT1"])
def test_python_executes_these_pickles(tmp_path, what, extension):
    victim = tmp_path / "victim"
    pickle.loads(commands(victim)[what])
    assert victim.exists()


def test_the_error_for_a_foreign_class_has_a_remedy(tmp_path):
    arguments = Call(Named("argparse", "Namespace"), ())
    message = refusal(write(tmp_path, zip_file({"state_dict": state_dict(), "args": arguments})))
    assert "asks for argparse.Namespace" in message
    assert "save only its state dict: torch.save(model.state_dict(), path)" in message


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        ("_rebuild_sparse_tensor", "sparse"),
        ("_rebuild_qtensor", "quantized"),
        ("_rebuild_meta_tensor_no_storage", "meta"),
    ],
)
def test_names_unsupported_tensors(tmp_path, function, kind):
    content = {"a": Call(Named("torch._utils", function), ())}
    message = refusal(write(tmp_path, zip_file(content)))
    assert f"holds a {kind} tensor (torch._utils.{function})" in message


TENSOR_2 = b"ctorch._utils\n_rebuild_tensor_v2\n"
DICT = b"ccollections\nOrderedDict\n"


@pytest.mark.parametrize(
    "code",
    {
        "a memo of 2^32 places": b"]r\xff\xff\xff\xff0.",
        "a memo of 2^31 places": b"]r\xff\xff\xff\x7f.",
        "a tuple in a tuple ..., as a key": b"})" + b"\x85" * 200_000 + b"Ns.",
        "the same in a batch": b"}()" + b"\x85" * 200_000 + b"Nu.",
        "the same in an OrderedDict": DICT + b"]])" + b"\x85" * 200_000 + b"aNaa\x85R.",
        "a key of 2^60 parts": b"})" + b"q\0h\0\x86" * 60 + b"Ns.",
        "lists in lists": b"]" * 200_000 + b"a" * 199_999 + b".",
        "tuples in tuples": b")" + b"\x85" * 200_000 + b".",
        "a list in itself": b"]q\0h\0a.",
        "a string of 4 GiB": b"X\xff\xff\xff\xffa.",
        "bytes of 4 GiB": b"B\xff\xff\xff\xffa.",
        "a frame of 2^63 bytes": b"\x95" + b"\xff" * 7 + b"\x7f.",
        "keys of equal hash": b"}(" + b"".join(
            b"\x8a\x0a" + ((2**61 - 1) << i).to_bytes(10, "little") + b"N" for i in range(16)
        ) + b"u.",
        "state for a function": TENSOR_2 + b"}" + text("x") + b"Nsb.",
        "state for a class": DICT + b"}" + text("x") + b"Nsb.",
        "a call of a list": b"])R.",
        "a call without arguments": TENSOR_2 + b")R.",
        "a call with a number": TENSOR_2 + b"K\1R.",
        "a tensor without a storage": TENSOR_2 + b"(K\0K\0))\x89NtR.",
        "an item of a number": b"K\1K\2K\3s.",
        "a mark too few": b"t.",
        "nothing": b".",
        "half of a pair": b"}(" + text("a") + b"u.",
        "a place that nothing was put in": b"h\7.",
        "a text that is none": b"X\1\0\0\0\xff.",
        "a storage without a type": b"(" + text("storage") + b"K\1" + text("0") + b"NK\1tQ.",
        "a storage without a size": b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0")
        + b"NNtQ.",
        "a storage of less than nothing": b"(" + text("storage") + b"ctorch\nFloatStorage\n"
        + text("0") + b"NJ\xff\xff\xff\xfftQ.",
        "not a storage": b"(" + text("module") + b"NNNNtQ.",
        "a name without an end": b"cos",
        "no end": b"]" * 100,
    }.items(),
    ids=lambda item: item[0],
)  # fmt: skip
def test_bombs_are_refused_in_little_memory(tmp_path, code):
    path = write(tmp_path, zip_of({"net/data.pkl": b"\x80\x02" + code[1]}))
    tracemalloc.start()
    refusal(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50 << 20
    assert not hasattr(OrderedDict, "x")


def test_refuses_a_long_index(tmp_path):
    path = write(tmp_path, zip_of({"net/data.pkl": b"\x80\x02" + b"]" * (5 << 20)}))
    assert "an index of 5 MiB, too long for weights" in refusal(path)


# Tensors with wrong descriptions


@both
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"offset": 1}, "extends beyond its storage"),
        ({"offset": -1}, "strides that do not fit"),
        ({"offset": 2**70}, "is invalid"),
        ({"offset": 10**18}, "extends beyond its storage"),
        ({"offset": True}, "is invalid"),
        ({"shape": (4, 3, 2, 3)}, "has 72 elements, its storage only 48"),
        ({"shape": (10**12,), "strides": (1,)}, "has 1000000000000 elements, its storage only 48"),
        ({"shape": (10**12,), "strides": (0,)}, "has 1000000000000 elements, its storage only 48"),
        ({"shape": (2**40, 2**40), "strides": (0, 0)}, "announces an array of the shape"),
        ({"shape": (0, 2**40, 2**40), "strides": (0, 0, 0)}, "announces an array of the shape"),
        ({"shape": (-1, -48), "strides": (1, 1)}, "announces an array of the shape"),
        ({"shape": (1,) * 40, "strides": (1,) * 40}, "announces an array of the shape"),
        ({"strides": (13, 4, 2, 1)}, "extends beyond its storage"),
        ({"strides": (-12, 4, 2, 1)}, "strides that do not fit"),
        ({"strides": (12, 4, 2)}, "strides that do not fit"),
        ({"strides": (10**18, 4, 2, 1)}, "extends beyond its storage"),
        ({"shape": (2.0,), "strides": (1,)}, "is invalid"),
        ({"shape": ("2",), "strides": (1,)}, "is invalid"),
        ({"shape": ((2,),), "strides": (1,)}, "is invalid"),
        ({"shape": 4}, "is invalid"),
        ({"shape": None, "strides": None}, "is invalid"),
    ],
)
def test_never_reads_outside_a_storage(tmp_path, form, changes, message):
    path = write(tmp_path, FORMATS[form]({"fine": tensor(WEIGHT), "a": tensor(WEIGHT, **changes)}))
    text = refusal(path)
    assert message in text
    assert "tensor 'a'" in text


@both
@pytest.mark.parametrize("count", [0, 47, 49, 10**12])
def test_storage_and_record_must_have_the_same_size(tmp_path, form, count):
    wrong = tensor(WEIGHT)
    wrong.storage.count = count
    message = refusal(write(tmp_path, FORMATS[form]({"a": wrong})))
    assert "storage" in message or "truncated" in message


def test_a_record_must_have_the_size_in_the_index(tmp_path):
    index, storages = dumps({"a": tensor(WEIGHT)}, view=(None,))
    storages[0].count = 47
    assert "the size of its record '0' is wrong" in refusal(
        write(tmp_path, legacy_of(index, storages))
    )


# Zip archives


def entries_with(**changes):
    return {**zip_entries(state_dict()), **changes}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (entries_with(**{"../../etc/cron.d/x": b"x"}), "leaves the archive"),
        (entries_with(**{"/etc/passwd": b"x"}), "leaves the archive"),
        (entries_with(**{"net\\..\\x": b"x"}), "leaves the archive"),
        (entries_with(**{"net/byteorder": b"big"}), "written by a big-endian machine"),
        (entries_with(**{"net/constants.pkl": b""}), "is a TorchScript program"),
        (entries_with(**{"more/data.pkl": b""}), "that torch.save did not write"),
        (entries_with(**{"net/data/0": b"1"}), "storage of another size than announced"),
        ({"weight.npy": b"x", "bias.npy": b"y"}, "zip archive (of 'weight.npy', 'bias.npy')"),
        ({}, "no valid zip directory"),
    ],
)
def test_refuses_other_archives(tmp_path, content, message):
    assert message in refusal(write(tmp_path, zip_of(content) if content else b"PK\3\4" * 9))


def test_an_archive_may_be_named_with_dots(tmp_path):
    entries = zip_entries(state_dict())
    renamed = {name.replace("net/", "my..net/"): item for name, item in entries.items()}
    assert_same(read(write(tmp_path, zip_of(renamed))), TENSORS)


def test_refuses_an_archive_without_a_record(tmp_path):
    entries = zip_entries(state_dict())
    del entries["net/data/3"]
    assert "has no record 'net/data/3'" in refusal(write(tmp_path, zip_of(entries)))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_refuses_two_entries_of_one_name(tmp_path):
    entries = [*zip_entries(state_dict()).items(), ("net/data/0", b"other")]
    assert "two entries of the name 'net/data/0'" in refusal(write(tmp_path, zip_of(entries)))


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_decompresses_nothing(tmp_path, method):
    bomb = zip_entries({"a": tensor(np.zeros(1 << 20))})
    path = write(tmp_path, zip_of(bomb, compression=method))
    assert path.stat().st_size < 100_000
    assert "is compressed" in refusal(path)


def central(content: bytes, name: bytes) -> int:
    """Return the offset of an entry in the central directory."""
    return content.rindex(b"PK\1\2", 0, content.rindex(name))


def patched(content: bytes, at: int, replacement: bytes) -> bytes:
    return content[:at] + replacement + content[at + len(replacement) :]


@pytest.mark.parametrize(
    ("place", "replacement", "message"),
    [
        (8, b"\1\0", "is encrypted"),
        (20, struct.pack("<II", 10**9, 10**9), "is truncated or damaged"),
        (20, struct.pack("<II", 10, 10**9), "is compressed"),
        (42, struct.pack("<I", 5), "is not where it should be"),
        (42, struct.pack("<I", 10**9), "is truncated or damaged"),
        (10, b"\x63\0", "is compressed"),
    ],
)
def test_wrong_values_in_the_directory_are_refused(tmp_path, place, replacement, message):
    content = zip_file(state_dict())
    at = central(content, b"net/data/0") + place
    assert message in refusal(write(tmp_path, patched(content, at, replacement)))


def directory(content: bytes) -> int:
    """Return the offset of the end record of the central directory."""
    return content.rindex(b"PK\5\6")


def test_refuses_half_a_directory(tmp_path):
    content = zip_file(state_dict())
    first, end = content.index(b"PK\1\2"), directory(content)
    for changed in (
        content[:first] + content[first + 46 :],
        patched(content, first, b"PK\7\7"),
        patched(content, first + 28, b"\xff\xff"),
        content[:end] + b"\0" + content[end:],
        content[:-22],
    ):
        refusal(write(tmp_path, changed))


def test_refuses_zip64_sizes_that_are_missing(tmp_path):
    content = zip_file(state_dict())
    at = content.index(b"PK\1\2") + 20
    for changed, message in (
        (b"\xff" * 4, "is compressed"),
        (b"\xff" * 8, "is truncated or damaged"),
    ):
        assert message in refusal(write(tmp_path, patched(content, at, changed)))


def test_refuses_a_directory_of_gigabytes(tmp_path):
    path, size = tmp_path / "net.pth", 4 << 30
    with open(path, "wb") as file:
        file.write(b"PK\3\4")
        file.truncate(size)
        file.seek(size)
        file.write(struct.pack("<4s6xHLLH", b"PK\5\6", 0xFFFF, size - 1, 1, 0))
    tracemalloc.start()
    assert "no valid zip directory" in refusal(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_a_directory_of_many_entries_takes_little_memory(tmp_path):
    content = zip_of({"net/data.pkl": b"."})
    first = content.index(b"PK\1\2")
    rows = content[first : first + 46] + b"x" * 12
    count = (4 << 20) // len(rows)
    start = struct.pack("<4s6xHLLH", b"PK\5\6", 0xFFFF, len(rows) * count, first, 0)
    path = write(tmp_path, content[:first] + rows * count + start)
    tracemalloc.start()
    assert "two entries of the name" in refusal(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 << 20


@pytest.mark.parametrize("flags", [0, 0x800])
def test_refuses_a_name_that_is_not_text(tmp_path, flags):
    content = zip_file(state_dict())
    at = central(content, b"net/data/0")
    content = patched(content, at + 8, struct.pack("<H", flags))
    message = refusal(write(tmp_path, patched(content, at + 46, b"\xff")))
    assert "no valid zip directory" in message or "has no record" in message


def test_refuses_a_version_that_python_does_not_know(tmp_path):
    content = zip_file(state_dict())
    at = content.index(b"PK\1\2") + 6
    assert "no valid zip directory" in refusal(write(tmp_path, patched(content, at, b"\xff\0")))


def test_refuses_entries_that_overlap(tmp_path):
    """Many tensors in few bytes: here an entry is inside another one."""
    inner = zip_of({"net/data/1": b"x" * 16})
    inner = inner[: inner.index(b"PK\1\2")]
    outer = np.frombuffer(inner.ljust(100, b"\0"), np.uint8)
    small = tensor(np.zeros(2))
    content = zip_file({"a": tensor(outer), "b": small})
    at = central(content, b"net/data/1") + 42
    moved = patched(content, at, struct.pack("<I", content.index(inner)))
    assert "its entries overlap" in refusal(write(tmp_path, moved))


def test_refuses_an_entry_of_another_name(tmp_path):
    content = zip_file({"a": tensor(WEIGHT), "b": tensor(WEIGHT)})
    at = central(content, b"net/data/1") + 42
    moved = patched(content, at, struct.pack("<I", content.index(b"net/data/0") - 30))
    assert "is not where it should be" in refusal(write(tmp_path, moved))


def test_reads_archives_with_a_comment(tmp_path):
    content = zip_file(state_dict())
    end = directory(content) + 20
    commented = content[:end] + struct.pack("<H", 0xFFFF) + b"x" * 0xFFFF
    assert_same(read(write(tmp_path, commented)), TENSORS)


def test_reads_zip64_archives(tmp_path, monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 10)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    content = zip_file(state_dict())
    assert b"PK\6\6" in content
    monkeypatch.undo()
    assert_same(read(write(tmp_path, content)), TENSORS)


def test_a_damaged_index_is_detected(tmp_path):
    content = zip_file(state_dict())
    at = content.index(b"conv.weight")
    assert "a wrong checksum" in refusal(write(tmp_path, patched(content, at, b"C")))


# The older format


@pytest.mark.parametrize(
    ("system", "message"),
    [
        ({"little_endian": False}, "written by a big-endian machine"),
        ({}, "written by a big-endian machine"),
        ([], "unknown version"),
    ],
)
def test_refuses_other_systems(tmp_path, system, message):
    content = legacy_of(*dumps(state_dict(), view=(None,)), system=system)
    assert message in refusal(write(tmp_path, content))


def test_refuses_records_that_the_index_does_not_name(tmp_path):
    index, storages = dumps(state_dict(), view=(None,))
    storages.append(Storage(b"", Named("torch", "FloatStorage"), 0, "more"))
    message = refusal(write(tmp_path, legacy_of(index, storages)))
    assert "has a record that its index does not name" in message
    message = refusal(write(tmp_path, legacy_of(index, storages[:1])))
    assert "is invalid" in message


# Damage


@both
def test_every_truncation_is_detected(tmp_path, form):
    content = FORMATS[form](state_dict())
    for size in [*range(0, len(content) - 1, 7), len(content) - 1]:
        refusal(write(tmp_path, content[:size]))


SMALL = {"a.weight": WEIGHT, "a.turned": WEIGHT[0, 0].T, "n": np.array(3)}
SOUND = {form: make({"state_dict": state_dict(SMALL)}) for form, make in FORMATS.items()}


@both
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_random_damage_is_harmless(tmp_path_factory, form, data):
    content = data.draw(damaged(SOUND[form]))
    read_or_refuse(write(tmp_path_factory.mktemp("damaged"), content))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_randomly_damaged_index_is_harmless(tmp_path_factory, data):
    """As above, with a valid checksum of the index."""
    entries = zip_entries({"state_dict": state_dict(SMALL)})
    index = bytearray(entries["net/data.pkl"])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(index) - 1))
        index[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=6))
    entries["net/data.pkl"] = bytes(index)
    read_or_refuse(write(tmp_path_factory.mktemp("damaged"), zip_of(entries)))
