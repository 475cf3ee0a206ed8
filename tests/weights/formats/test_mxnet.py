from __future__ import annotations

import struct

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.weights_files import (
    NET,
    SCALARS,
    WEIGHT,
    assert_same,
    read,
    read_damaged,
    refusal,
    refuse_truncations,
    write,
)

from gluondense.weights.formats.open import open_weights

V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
OLD = "before 0.12"
CODES = {"f4": 0, "f8": 1, "f2": 2, "u1": 3, "i4": 4, "i1": 5, "i8": 6, "b1": 7, "i2": 8, "u4": 10}


def header(array, magic=V2, storage=0):
    dimensions = struct.pack("<i", array.ndim) + struct.pack(f"<{array.ndim}q", *array.shape)
    if magic == OLD:
        start = struct.pack(f"<I{array.ndim}I", array.ndim, *array.shape)
    elif magic == V1:
        start = struct.pack("<I", magic) + dimensions
    else:
        start = struct.pack("<Ii", magic, storage) + dimensions
    return start + struct.pack("<iii", 1, 0, CODES[array.dtype.str[1:]])


def names_of(names):
    parts = [struct.pack("<Q", len(name)) + name for name in names]
    return struct.pack("<Q", len(names)) + b"".join(parts)


def file_of(arrays, names, count=None):
    count = len(arrays) if count is None else count
    return struct.pack("<QQQ", 0x112, 0, count) + b"".join(arrays) + names_of(names)


def params(arrays, magic=V2):
    contents = [header(array, magic) + array.tobytes() for array in arrays.values()]
    return file_of(contents, [name.encode() for name in arrays])


# Files of MXNet


def test_reads_files_of_nd_save(tmp_path):
    path = tmp_path / "net.params"
    mx.nd.save(str(path), {k: mx.nd.array(v, dtype=v.dtype) for k, v in NET.items()})
    with open_weights(path) as file:
        assert file.format == "mxnet"
        assert file.shapes == {name: array.shape for name, array in NET.items()}
        assert file.dtypes == {name: array.dtype for name, array in NET.items()}
        assert_same(file, NET)


def test_reads_arrays_of_numpy_semantics(tmp_path):
    path = tmp_path / "net.params"
    with mx.util.np_shape(True):
        mx.nd.save(str(path), {"none": mx.nd.zeros((0, 3)), "scalar": mx.nd.ones(())})
    expected = {"none": np.zeros((0, 3), np.float32), "scalar": np.ones((), np.float32)}
    assert_same(read(path), expected)


@pytest.fixture
def net():
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Conv2D(4, 3, in_channels=3), mx.gluon.nn.BatchNorm(in_channels=4))
    net.initialize(mx.init.Normal(1))
    net.hybridize()
    net(mx.nd.ones((1, 3, 8, 8))).wait_to_read()
    return net


def test_reads_the_files_of_gluon(tmp_path, net):
    path = tmp_path / "net.params"
    net.save_parameters(str(path))
    parameters = net._collect_params_with_prefix()
    assert_same(read(path), {name: p.data().asnumpy() for name, p in parameters.items()})


def test_reads_exports_and_checkpoints_of_module(tmp_path, net):
    net.export(str(tmp_path / "net"))
    expected = {name: p.data().asnumpy() for name, p in net.collect_params().items()}
    symbol, arg_params, aux_params = mx.model.load_checkpoint(str(tmp_path / "net"), 0)
    module = mx.mod.Module(symbol, label_names=None)
    module.bind([("data", (1, 3, 8, 8))], for_training=False)
    module.set_params(arg_params, aux_params)
    module.save_checkpoint(str(tmp_path / "module"), 3)
    for name in ("net-0000.params", "module-0003.params"):
        with open_weights(tmp_path / name) as file:
            assert set(file) == set(expected)
            assert_same(file, {key: expected[key] for key in file})


@pytest.mark.parametrize("magic", [V1, V2, V3, OLD])
def test_reads_every_version(tmp_path, magic):
    path = write(tmp_path, params(NET, magic))
    assert_same(read(path), NET)
    if magic != V3:
        loaded = mx.nd.load(str(path))
        assert_same({name: array.asnumpy() for name, array in loaded.items()}, NET)


def test_reads_dtypes_that_asnumpy_lacks(tmp_path):
    expected = {**SCALARS, "word": np.arange(3, dtype=np.uint32)}
    assert_same(read(write(tmp_path, params(expected, V3))), expected)
    half = header(np.zeros(2, np.float32))[:-4] + struct.pack("<i", 12) + b"\x80\x3f\x40\xc0"
    array = read(write(tmp_path, file_of([half], [b"a"])))["a"]
    assert array.dtype == np.float32
    assert array.tolist() == [1, -3]


def test_prefixes_are_removed_from_each_name(tmp_path):
    arrays = {"arg:a": WEIGHT, "b": WEIGHT}
    assert list(read(write(tmp_path, params(arrays)))) == ["a", "b"]


# Invalid files


ONE = header(np.zeros(3)) + bytes(24)


def shaped(*shape):
    return struct.pack(f"<Iii{len(shape)}q", V2, 0, len(shape), *shape) + struct.pack(
        "<iii", 1, 0, 0
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (file_of([ONE], []), "holds arrays without names; save a dict"),
        (file_of([ONE], [b"a", b"b"]), "has 1 arrays but 2 names"),
        (file_of([ONE, ONE], [b"a"]), "has 2 arrays but 1 names"),
        (file_of([ONE, ONE], [b"a", b"a"]), "has two arrays of the name 'a'"),
        (file_of([ONE, ONE], [b"arg:a", b"aux:a"]), "has two arrays of the name 'a'"),
        (file_of([ONE], [b"\xff"]), "names that are not UTF-8"),
        (file_of([ONE], [b"a"]) + b"more", "has 4 bytes after its end"),
        (file_of([ONE], [b"a"], count=10**12), "truncated"),
        (file_of([ONE] * 3, [], count=2**63), "an array without values"),
        (
            file_of([header(WEIGHT, storage=1)], [b"a"]),
            "an array of row-sparse storage; make it dense",
        ),
        (file_of([header(WEIGHT, storage=2)], [b"a"]), "an array of compressed sparse row storage"),
        (file_of([header(WEIGHT, storage=-1)], [b"a"]), "an array of unknown storage"),
        (file_of([struct.pack("<Iii", V2, 0, 0)], [b"a"]), "an array without values"),
        (file_of([struct.pack("<Iii", V3, 0, -1)], [b"a"]), "an array without values"),
        (file_of([struct.pack("<Iii", V2, 0, 33)], [b"a"]), "an array of 33 dimensions"),
        (file_of([struct.pack("<I", 10**9)], [b"a"]), "an array of 1000000000 dimensions"),
        (file_of([shaped(10**12)], [b"a"]), "truncated"),
        (file_of([shaped(2**40, 2**40)], [b"a"]), "an array of the shape (1099511627776,"),
        (file_of([shaped(0, 2**40, 2**40)], [b"a"]), "an array of the shape (0, 1099511627776,"),
        (file_of([shaped(-4, -4)], [b"a"]), "an array of the shape (-4, -4)"),
        (file_of([shaped(1)[:-4] + struct.pack("<i", 13)], [b"a"]), "of the unknown type 13"),
        (file_of([shaped(1)[:-4] + struct.pack("<i", -1)], [b"a"]), "of the unknown type -1"),
        (file_of([ONE], [])[:-8] + struct.pack("<QQ", 1, 10**12), "truncated"),
        (file_of([ONE], [])[:-8] + struct.pack("<Q", 10**12), "truncated"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refuses_invalid_files(tmp_path, content, message):
    assert message in refusal(write(tmp_path, content))


def test_refuses_lists_and_sparse_arrays_of_mxnet(tmp_path):
    path = tmp_path / "net.pth"
    for content, message in (
        ([mx.nd.ones(3)], "holds arrays without names"),
        ({"a": mx.nd.ones((3, 2)).tostype("row_sparse")}, "holds an array of row-sparse storage"),
        (
            {"a": mx.nd.ones((3, 2)).tostype("csr")},
            "holds an array of compressed sparse row storage",
        ),
    ):
        mx.nd.save(str(path), content)
        assert message in refusal(path)


@pytest.mark.parametrize("magic", [V1, V2, V3, OLD])
def test_every_truncation_is_detected(tmp_path, magic):
    refuse_truncations(tmp_path, params(NET, magic))


SOUND = params({"a.weight": WEIGHT, "b": np.arange(3)})


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_random_damage_is_harmless(tmp_path_factory, data):
    read_damaged(tmp_path_factory, data, SOUND)
