from __future__ import annotations

import gzip
import io
import json
import os
import struct
import tarfile
import threading
import tracemalloc

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save, save_file
from support.torch_files import legacy_file, state_dict, tensor, zip_file
from support.weights_files import (
    NET,
    SCALARS,
    WEIGHT,
    assert_same,
    check_message,
    read,
    read_damaged,
    read_or_refuse,
    refusal,
    refuse_truncations,
    write,
)

from gluondense.weights.formats.open import open_weights

ARRAYS = {**NET, **SCALARS}


@pytest.fixture(params=["mxnet", "safetensors", "torch zip", "torch legacy"])
def path(request, tmp_path):
    """Return a file of NET in each format, under a name without a suffix."""
    path = tmp_path / "weights"
    if request.param == "mxnet":
        mx.nd.save(str(path), {k: mx.nd.array(v, dtype=v.dtype) for k, v in NET.items()})
    elif request.param == "safetensors":
        save_file(NET, path)
    else:
        make = zip_file if request.param == "torch zip" else legacy_file
        path.write_bytes(make(state_dict(NET)))
    return path


# The mapping of arrays


def test_is_a_mapping(path):
    with open_weights(path) as file:
        assert len(file) == len(NET)
        assert set(file) == set(NET)
        assert "conv.weight" in file
        assert "conv.bias" not in file
        assert file.get("conv.bias") is None
        with pytest.raises(KeyError, match=r"conv\.bias"):
            file["conv.bias"]
        assert file.path == str(path)
        assert repr(file) == f"WeightsFile({str(path)!r}, {file.format!r}, 7 arrays)"
        assert_same(file, {key: NET[key] for key in file})


def test_arrays_are_copies(path):
    with open_weights(path) as file:
        first = file["conv.weight"]
        first[:] = 0
        np.testing.assert_array_equal(file["conv.weight"], NET["conv.weight"])


def test_accepts_str_and_path(path):
    for name in (path, str(path)):
        with open_weights(name) as file:
            assert file.path == str(path)


def test_shapes_are_available_after_closing(path):
    with open_weights(path) as file:
        pass
    assert file.shapes["conv.weight"] == (4, 3, 2, 2)
    with pytest.raises(ValueError, match=r"weights is closed; read it inside its with") as caught:
        file["conv.weight"]
    check_message(str(caught.value), path)


def test_reads_into_memory(path):
    with open_weights(path) as file:
        for dtype in (np.float32, np.float64):
            out = np.empty(WEIGHT.shape, dtype)
            file.read_into("conv.weight", out)
            np.testing.assert_array_equal(out, WEIGHT)


def test_reads_a_transposed_view_into_memory(tmp_path):
    path = write(tmp_path, zip_file({"a": tensor(WEIGHT.T)}))
    out = np.empty(WEIGHT.T.shape, np.float32)
    with open_weights(path) as file:
        file.read_into("a", out)
    np.testing.assert_array_equal(out, WEIGHT.T)


@pytest.mark.parametrize("at_a_time", [100, 7])
def test_reads_in_pieces(path, monkeypatch, at_a_time):
    """Linux reads at most 2 GiB in one call."""
    preadv = os.preadv
    monkeypatch.setattr(
        os, "preadv", lambda file, parts, at: preadv(file, [parts[0][:at_a_time]], at)
    )
    with open_weights(path) as file:
        assert_same(file, {key: NET[key] for key in file})


def test_caches_no_arrays(tmp_path):
    arrays = {str(i): np.full((256, 1024), i, np.float32) for i in range(12)}
    for content in (zip_file, legacy_file, lambda tensors: None):
        path = tmp_path / "weights"
        made = content({name: tensor(array) for name, array in arrays.items()})
        if made is None:
            save_file(arrays, path)
        else:
            path.write_bytes(made)
        del made
        tracemalloc.start()
        with open_weights(path) as file:
            assert tracemalloc.get_traced_memory()[1] < arrays["0"].nbytes
            tracemalloc.reset_peak()
            for name in file:
                assert file[name][0, 0] == int(name)
            assert tracemalloc.get_traced_memory()[1] < (1 << 20) + (1 << 18)
        tracemalloc.stop()


def test_a_file_that_shrinks_after_opening(path):
    with open_weights(path) as file:
        os.truncate(path, 64)
        with pytest.raises(ValueError, match="became shorter while it was read") as caught:
            dict(file)
    check_message(str(caught.value), path)


def test_threads_can_share_a_file(path):
    failures = []

    def work(file):
        try:
            for _ in range(30):
                assert_same(file, {key: NET[key] for key in file})
        except AssertionError as error:
            failures.append(error)

    with open_weights(path) as file:
        threads = [threading.Thread(target=work, args=(file,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures


# Other files


def test_missing_and_special_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no weights file .*nothing\.pth; check the path"):
        open_weights(tmp_path / "nothing.pth")
    with pytest.raises(IsADirectoryError, match="is a folder; name the weights file itself"):
        open_weights(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="is not a regular file"):
        open_weights(tmp_path / "pipe")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_read_permission(path):
    path.chmod(0)
    with pytest.raises(PermissionError, match="is not readable; check its permissions"):
        open_weights(path)


def tar_of(content):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"), io.BytesIO(content))
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty or truncated: it has only 0 bytes; get it again"),
        (b"PK\3\4", "is empty or truncated: it has only 4 bytes"),
        (b"\n<!DOCTYPE html><html>404</html>", "is a web page, not weights"),
        (b"<html><body>Too many requests", "is a web page, not weights"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied", "is a web page, not weights"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 32342954\n",
            "is a git-lfs pointer to the weights; run: git lfs pull",
        ),
        (gzip.compress(b"weights" * 99), "is gzipped; unpack it with gunzip"),
        (tar_of(b""), "is a tar archive"),
        (b"\x93NUMPY\1\0" + bytes(99), "is one NumPy array without a name"),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "is an HDF5 file"),
        (b'{\n  "nodes": [\n    {\n', "is JSON, such as MXNet's -symbol.json"),
        (b"\x80\x04\x95" + bytes(99), "is a pickle that torch.save did not write"),
        (b"just some text, no weights", "is not a weights file: it begins with 6a75737420736f6d"),
        (struct.pack("<QQ", 0x112, 1) + bytes(99), "is not a weights file: it begins with 1201"),
        (bytes(99), "is not a weights file: it begins with 0000000000000000"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_errors_describe_other_files(tmp_path, content, message):
    assert message in refusal(write(tmp_path, content))


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=600))
def test_any_bytes_are_refused(tmp_path_factory, content):
    read_or_refuse(write(tmp_path_factory.mktemp("any"), content))


# Safetensors


def safetensors_of(header, data=b"", size=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + data


def row(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_reads_safetensors(tmp_path):
    path = tmp_path / "net.safetensors"
    save_file(ARRAYS, path, metadata={"format": "np", "mean": "0.485"})
    with open_weights(path) as file:
        assert file.format == "safetensors"
        assert file.metadata == {"format": "np", "mean": "0.485"}
        assert set(file) == set(ARRAYS)
        assert_same(file, {key: ARRAYS[key] for key in file})


def test_widens_bfloat16(tmp_path):
    header = {
        "__metadata__": {"a": "b"},
        "a": row("BF16", (3,), (0, 6)),
        "b": row("U8", (1,), (6, 7)),
    }
    path = write(tmp_path, safetensors_of(header, b"\x80\x3f\x40\xc0\x80\x7f\7"))
    with open_weights(path) as file:
        assert file.dtypes["a"] == file["a"].dtype == np.float32
        assert file["a"].tolist() == [1, -3, np.inf]
        assert file["b"].tolist() == [7]
        file.read_into("a", out := np.empty(3, np.float32))
        assert out.tolist() == [1, -3, np.inf]


def test_safetensors_are_in_the_order_of_their_offsets(tmp_path):
    header = {"z": row(offsets=(4, 8)), "a": row(offsets=(8, 12)), "m": row(offsets=(0, 4))}
    data = np.arange(3, dtype=np.float32).tobytes()
    arrays = read(write(tmp_path, safetensors_of(header, data)))
    assert {name: array.tolist() for name, array in arrays.items()} == {
        "m": [0],
        "z": [1],
        "a": [2],
    }
    assert list(arrays) == ["m", "z", "a"]


@pytest.mark.parametrize(
    "content",
    [
        safetensors_of({"a": row()}, b"1234", size=10**12),
        safetensors_of({"a": row()}, b"1234", size=2**64 - 1),
        safetensors_of({"a": row(shape=[10**12], offsets=[0, 4 * 10**12])}, b"1234"),
        safetensors_of({"a": row(shape=[2**62, 2**62])}, b"1234"),
        safetensors_of({"a": row(shape=[2])}, b"1234"),
        safetensors_of({"a": row(shape=[-1])}, b"1234"),
        safetensors_of({"a": row(offsets=[4, 0])}, b"1234"),
        safetensors_of({"a": row(offsets=[4, 8])}, b"12345678"),
        safetensors_of({"a": row(), "b": row()}, b"1234"),
        safetensors_of({"a": row()}, b"12345678"),
        safetensors_of({"a": row("F33")}, b"1234"),
        safetensors_of(b'{"a":' + b"[" * 100_000, b"1234"),
        safetensors_of(b"{not json at all}", b"1234"),
    ],
    ids=range(13),
)
def test_refuses_invalid_headers(tmp_path, content):
    assert "is not a valid safetensors file (" in refusal(write(tmp_path, content))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"a": row("F8_E4M3", (4,))}, "holds 'a' in the type F8_E4M3; save it as float32"),
        ({"a": row(shape=(1,) * 33)}, "an array of the shape (1, 1"),
        (
            {"a": row(shape=(0, 2**60, 4), offsets=(0, 0)), "b": row()},
            "shape (0, 1152921504606846976",
        ),
    ],
)
def test_refuses_arrays_that_numpy_lacks(tmp_path, header, message):
    assert message in refusal(write(tmp_path, safetensors_of(header, b"1234")))


def test_every_truncation_of_safetensors_is_detected(tmp_path):
    refuse_truncations(tmp_path, save(NET))


SOUND = save({"a.weight": WEIGHT, "b": np.arange(3)})


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_random_damage_of_safetensors_is_harmless(tmp_path_factory, data):
    read_damaged(tmp_path_factory, data, SOUND)
