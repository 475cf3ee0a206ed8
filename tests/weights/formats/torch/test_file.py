"""PyTorch's files, written without torch and by torch itself."""

from __future__ import annotations

import io
from collections import Counter, OrderedDict

import numpy as np
import pytest
from support.torch_files import (
    FORMATS,
    TENSORS,
    Call,
    Named,
    Storage,
    Tensor,
    both,
    dumps,
    legacy_file,
    legacy_of,
    state_dict,
    tensor,
    zip_file,
)
from support.weights_files import WEIGHT, assert_same, read, refusal, write

from gluondense.weights.formats.open import open_weights
from gluondense.weights.formats.torch import file as torch_file

# Files of torch.save


@both
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_reads_a_state_dict(tmp_path, form, protocol):
    path = write(tmp_path, FORMATS[form](state_dict(), protocol))
    with open_weights(path) as file:
        assert file.format == "torch"
        assert file.shapes == {name: array.shape for name, array in TENSORS.items()}
        assert file.dtypes == {name: array.dtype for name, array in TENSORS.items()}
        assert_same(dict(file), TENSORS)


@both
def test_widens_bfloat16(tmp_path, form):
    bits = np.array([0x3F80, 0xC040, 0x7F80], np.uint16)
    half = tensor(bits.astype(np.int16))
    half.storage.kind = Named("torch", "BFloat16Storage")
    array = read(write(tmp_path, FORMATS[form]({"a": half})))["a"]
    assert array.dtype == np.float32
    assert array.tolist() == [1, -3, np.inf]


@both
def test_reads_views_and_shared_storages(tmp_path, form):
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    whole = tensor(base)
    shared = whole.storage
    views = {
        "whole": whole,
        "turned": tensor(base.T),
        "row": Tensor(shared, 6, (6,), (1,)),
        "column": Tensor(shared, 2, (4,), (6,)),
        "block": Tensor(shared, 8, (2, 3), (6, 1)),
        "last": Tensor(shared, 23, (), ()),
        "ones": Tensor(shared, 3, (1, 2, 1), (99, 1, 7)),
        "nothing": Tensor(shared, 0, (0, 5), (5, 1)),
        "windows": Tensor(shared, 0, (3, 4), (1, 1)),
    }
    expected = {
        "whole": base,
        "turned": base.T,
        "row": base[1],
        "column": base[:, 2],
        "block": base[1:3, 2:5],
        "last": base[3, 5],
        "ones": base[:1, 3:5, None],
        "nothing": base[:0, :5],
        "windows": np.array([range(4), range(1, 5), range(2, 6)], np.float32),
    }
    assert_same(read(write(tmp_path, FORMATS[form](views))), expected)


def test_reads_storage_views_of_the_oldest_files(tmp_path):
    path = write(tmp_path, legacy_file({"a": tensor(np.arange(2))}, view=(("5", 1, 1),)))
    assert "has 2 elements, its storage only 1" in refusal(path)
    one = tensor(np.arange(3), shape=(1,))
    path = write(tmp_path, legacy_file({"a": one}, view=(("5", 2, 1),)))
    assert read(path)["a"].tolist() == [2]
    path = write(tmp_path, legacy_file({"a": one}, view=(("5", 3, 1),)))
    assert "beyond the end of its record" in refusal(path)


@both
def test_reads_every_rebuild_function(tmp_path, form):
    array = np.arange(3, dtype=np.int32)
    raw = np.arange(3, dtype=np.uint32)
    untyped = Storage(raw.tobytes(), Named("torch.storage", "UntypedStorage"), 12)
    cuda = tensor(array)
    cuda.storage.kind = Named("torch.cuda", "IntStorage")
    parameter = Named("torch._utils", "_rebuild_parameter")
    with_state = Named("torch._utils", "_rebuild_parameter_with_state")
    tensors = {
        "of 2017": tensor(array, rebuild="_rebuild_tensor"),
        "usual": tensor(array),
        "with metadata": tensor(array, extra=(None,)),
        "parameter": Call(parameter, (tensor(array), True, OrderedDict())),
        "state": Call(with_state, (tensor(array), True, OrderedDict(), {"tag": 1})),
        "cuda": cuda,
    }
    if form == "zip":
        new = {"rebuild": "_rebuild_tensor_v3", "extra": (Named("torch", "uint32"),)}
        tensors["untyped"] = Tensor(untyped, 0, (3,), (1,), **new)
    expected = {name: raw if name == "untyped" else array for name in tensors}
    assert_same(read(write(tmp_path, FORMATS[form](tensors))), expected)


def test_reads_pickles_of_python_2(tmp_path):
    index, storages = dumps({"a": tensor(np.arange(2))})
    # A dictionary of lists of two, with names that were bytes.
    tensor_code = index[index.index(b"ctorch._utils") : -len(b"s.")]
    index = b"\x80\x02ccollections\nOrderedDict\n]](U\x01a" + tensor_code + b"ea\x85R."
    assert read(write(tmp_path, legacy_of(index, storages)))["a"].tolist() == [0, 1]


@pytest.mark.parametrize("difference", range(-8, 400, 8))
def test_reads_pickles_longer_than_the_first_read(tmp_path, difference):
    """The first read ends in any of the last pickles, or in the records."""
    size = torch_file._USUAL_PICKLES + difference + 8 + WEIGHT.nbytes
    short = legacy_file({"_": "", "a": tensor(WEIGHT)})
    path = write(tmp_path, legacy_file({"_": "x" * (size - len(short)), "a": tensor(WEIGHT)}))
    assert_same(read(path), {"a": WEIGHT})


def test_reads_plain_objects_beside_tensors(tmp_path):
    checkpoint = {
        "epoch": 3,
        "best": -0.5,
        "big": 2**62,
        "huge": 2**100,
        "name": "ü" * 300,
        "raw": b"\0" * 300,
        "flags": (True, None, [], {}, (), (1, 2, 3, 4)),
        "milestones": Call(Named("collections", "Counter"), ({30: 1, 60: 1},)),
        "size": Call(Named("torch", "Size"), ((1, 2),)),
        "device": Call(Named("torch", "device"), ("cuda", 0)),
        "dtype": Named("torch", "float16"),
        "losses": [0.5] * 3000,
        "net": state_dict(),
    }
    for protocol in (3, 4):
        assert_same(read(write(tmp_path, zip_file(checkpoint, protocol))), TENSORS)


# The state dict in a checkpoint


def one(value):
    return {"w": tensor(np.array([value]))}


@pytest.mark.parametrize(
    ("checkpoint", "expected"),
    [
        ({"state_dict": one(1), "epoch": 3}, 1),
        ({"model": one(1), "optimizer": {"state": {0: one(2)}}}, 1),
        ({"optimizer": {}, "net": one(1)}, 1),
        ({"state_dict": one(1), "state_dict_ema": one(2)}, 2),
        ({"model": one(1), "model_ema": one(2), "epoch": 1}, 2),
        ({"state_dict": {"model": one(1)}}, 1),
        ({"step": tensor(np.array(5)), "model": one(1)}, 1),
        ({"backbone": one(1), "epoch": 3}, 1),
        ({"model": {"name": "densenet121"}, "state_dict": one(1)}, 1),
        ({**one(1), "extra": {"version": 1}}, 1),
        ({"module.w": tensor(np.array([1]))}, 1),
        ({"_orig_mod.w": tensor(np.array([1]))}, 1),
        ({"n_averaged": tensor(np.array(5)), "w": tensor(np.array([1]))}, None),
        ({"n_averaged": tensor(np.array(5)), "module.w": tensor(np.array([1]))}, 1),
    ],
)
def test_finds_the_state_dict(tmp_path, checkpoint, expected):
    with open_weights(write(tmp_path, zip_file(checkpoint))) as file:
        assert file["w"].tolist() == [expected or 1]
        assert list(file) == (["w"] if expected else ["n_averaged", "w"])


def test_a_prefix_of_some_names_is_kept(tmp_path):
    tensors = {"module.w": tensor(np.array([1])), "w": tensor(np.array([2]))}
    assert list(read(write(tmp_path, zip_file(tensors)))) == ["module.w", "w"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "holds a dictionary of nothing, and no tensors by name"),
        ({"epoch": 1, "lr": 0.1}, "holds a dictionary of 'epoch', 'lr', and no tensors"),
        ([tensor(WEIGHT)], "holds a list, and no tensors by name"),
        (tensor(WEIGHT), "holds a Tensor, and no tensors by name"),
        ({0: tensor(WEIGHT)}, "holds a dictionary of 0, and no tensors by name"),
        ({"g": one(1), "d": one(2)}, "tensors in 'g' and 'd'; which are the weights is unknown"),
    ],
)
def test_errors_describe_files_without_weights(tmp_path, content, message):
    assert message in refusal(write(tmp_path, zip_file(content)))


# Files of the installed torch


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def same_as_torch(path, tensors):
    with open_weights(path) as file:
        assert list(file) == list(tensors)
        for name, tensor in tensors.items():
            expected = tensor.detach()
            if str(expected.dtype) == "torch.bfloat16":
                expected = expected.float()
            np.testing.assert_array_equal(file[name], expected.numpy())
            assert file.dtypes[name] == file[name].dtype == expected.numpy().dtype


new_and_old = pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])


@pytest.mark.parity
@new_and_old
def test_real_tensors_of_every_type(tmp_path, torch, new):
    types = ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"]
    tensors = {
        name: torch.arange(6).reshape(2, 3).to(getattr(torch, name))
        for name in [*types, "bfloat16"]
    }
    if new:
        for name in ("uint16", "uint32", "uint64"):
            tensors[name] = torch.arange(6).to(getattr(torch, name))
    tensors["scalar"] = torch.tensor(2.5)
    tensors["empty"] = torch.zeros(0, 3)
    torch.save(tensors, tmp_path / "net.pth", _use_new_zipfile_serialization=new)
    same_as_torch(tmp_path / "net.pth", tensors)


@pytest.mark.parity
@new_and_old
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_real_views(tmp_path, torch, new, protocol):
    base = torch.arange(24.0).reshape(4, 6)
    tensors = {
        "base": base,
        "turned": base.t(),
        "column": base[:, 2],
        "row": base[1],
        "block": base[1:3, 2:5],
        "last": base[3, 5],
        "channels_last": torch.arange(48.0)
        .reshape(2, 3, 2, 4)
        .to(memory_format=torch.channels_last),
        "parameter": torch.nn.Parameter(base[::2]),
    }
    path = tmp_path / "net.pth"
    torch.save(tensors, path, _use_new_zipfile_serialization=new, pickle_protocol=protocol)
    same_as_torch(path, tensors)


@pytest.mark.parity
@new_and_old
def test_real_networks(tmp_path, torch, new):
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Linear(8, 2)
    )
    net[2].weight = torch.nn.Parameter(net[2].weight.half())
    path = tmp_path / "net.pth"
    torch.save(net.state_dict(), path, _use_new_zipfile_serialization=new)
    same_as_torch(path, net.state_dict())
    optimizer = torch.optim.AdamW(net.parameters())
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 2])
    checkpoint = {
        "model": torch.nn.DataParallel(net).state_dict(),
        "model_ema": torch.optim.swa_utils.AveragedModel(net).state_dict(),
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": {k: v for k, v in schedule.state_dict().items() if k != "_get_lr_called"},
        "epoch": 3,
        "shape": torch.Size((1, 2)),
        "device": torch.device("cpu"),
        "dtype": torch.float16,
    }
    assert isinstance(checkpoint["lr_scheduler"]["milestones"], Counter)
    torch.save(checkpoint, path, _use_new_zipfile_serialization=new)
    same_as_torch(path, net.state_dict())
    torch.save(net, path, _use_new_zipfile_serialization=new)
    assert "asks for torch.nn.modules.container.Sequential" in refusal(path)


@pytest.mark.parity
def test_refuses_other_real_tensors(tmp_path, torch):
    path = tmp_path / "net.pth"
    for value, message in (
        (torch.eye(3).to_sparse(), "holds a sparse tensor"),
        (torch.empty(3, device="meta"), "holds a meta tensor"),
        (torch.ones(2, dtype=torch.complex64), "asks for torch.ComplexFloatStorage"),
        (torch.ones(2).to(torch.float8_e4m3fn), "asks for torch.float8_e4m3fn"),
        (torch.zeros(1).expand(9), "has 9 elements, its storage only 1; save it .contiguous()"),
    ):
        torch.save({"a": value}, path)
        assert message in refusal(path)


@pytest.mark.parity
def test_torch_reads_the_files_of_these_tests(torch):
    for make in FORMATS.values():
        loaded = torch.load(io.BytesIO(make(state_dict())))
        assert_same({name: tensor.numpy() for name, tensor in loaded.items()}, TENSORS)
