"""Write files in the formats of `torch.save` without torch, valid and invalid ones."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from support.weights_files import NET, SCALARS

TENSORS = {**NET, **SCALARS}

STORAGES = {
    "f8": "DoubleStorage",
    "f4": "FloatStorage",
    "f2": "HalfStorage",
    "i8": "LongStorage",
    "i4": "IntStorage",
    "i2": "ShortStorage",
    "i1": "CharStorage",
    "u1": "ByteStorage",
    "b1": "BoolStorage",
}


@dataclass(frozen=True)
class Named:
    """A class or function, by its name in a pickle."""

    module: str
    name: str

    def __call__(self):
        raise AssertionError("only its name is used")


@dataclass(eq=False)
class Storage:
    content: bytes
    kind: Named
    count: int
    key: str = ""  # assigned when it is pickled


@dataclass(eq=False)
class Tensor:
    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    rebuild: str = "_rebuild_tensor_v2"
    extra: tuple[Any, ...] = ()


@dataclass(eq=False)
class Call:
    """The result of a function call in a pickle."""

    function: Named
    arguments: tuple[Any, ...]


def tensor(array: np.ndarray, **changes: Any) -> Tensor:
    """Describe a tensor with the memory of an array, which may be transposed."""
    base = array
    while isinstance(base.base, np.ndarray):
        base = base.base
    base = np.ascontiguousarray(base)
    kind = Named("torch", STORAGES[array.dtype.str[1:]])
    strides = tuple(stride // array.itemsize for stride in array.strides)
    fields = {"offset": 0, "shape": array.shape, "strides": strides, **changes}
    return Tensor(Storage(base.tobytes(), kind, base.size), **fields)


def state_dict(arrays=TENSORS):
    tensors = OrderedDict((name, tensor(array)) for name, array in arrays.items())
    tensors._metadata = OrderedDict({"": {"version": 1}, "norm": {"version": 2}})
    return tensors


class Pickler(pickle._Pickler):
    """Pickles tensors as torch does, and `Named` without importing it."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def __init__(self, file, protocol, view):
        super().__init__(file, protocol)
        self.view = view
        self.storages: list[Storage] = []
        self.known: dict[Named, Named] = {}

    def one(self, item):
        """Return the same object for the same name, as for classes, which are pickled once."""
        return self.known.setdefault(item, item)

    def persistent_id(self, item):
        if not isinstance(item, Storage):
            return None
        if item not in self.storages:
            item.key = item.key or str(len(self.storages))
            self.storages.append(item)
        return ("storage", self.one(item.kind), item.key, "cpu", item.count, *self.view)

    def save_named(self, item):
        if self.proto >= 4:
            self.save(item.module)
            self.save(item.name)
            self.write(pickle.STACK_GLOBAL)
        else:
            self.write(f"c{item.module}\n{item.name}\n".encode())
        self.memoize(item)

    def save_call(self, item):
        self.save_reduce(item.function, item.arguments, obj=item)

    def save_tensor(self, item):
        arguments = (item.storage, item.offset, item.shape, item.strides, False, OrderedDict())
        if item.rebuild == "_rebuild_tensor":
            arguments = arguments[:4]
        function = self.one(Named("torch._utils", item.rebuild))
        self.save_reduce(function, arguments + item.extra, obj=item)

    dispatch[Named] = save_named
    dispatch[Call] = save_call
    dispatch[Tensor] = save_tensor


def dumps(
    content: Any, protocol: int = 2, view: tuple[Any, ...] = ()
) -> tuple[bytes, list[Storage]]:
    file = io.BytesIO()
    pickler = Pickler(file, protocol, view)
    pickler.dump(content)
    return file.getvalue(), pickler.storages


def zip_of(entries: dict[str, bytes] | list[tuple[str, bytes]], **options: Any) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as archive:
        for name, content in entries.items() if isinstance(entries, dict) else entries:
            archive.writestr(name, content)
    return file.getvalue()


def zip_entries(content: Any, protocol: int = 2) -> dict[str, bytes]:
    index, storages = dumps(content, protocol)
    return {
        "net/data.pkl": index,
        "net/byteorder": b"little",
        **{f"net/data/{storage.key}": storage.content for storage in storages},
        "net/version": b"3\n",
    }


def zip_file(content: Any, protocol: int = 2) -> bytes:
    return zip_of(zip_entries(content, protocol))


MAGIC = 0x1950A86A20F9469CFC6C


def legacy_file(
    content: Any, protocol: int = 2, system: dict[str, Any] | None = None, view: Any = (None,)
) -> bytes:
    index, storages = dumps(content, protocol, view)
    return legacy_of(index, storages, protocol, system)


def legacy_of(
    index: bytes,
    storages: list[Storage],
    protocol: int = 2,
    system: dict[str, Any] | None = None,
) -> bytes:
    system = {"protocol_version": 1001, "little_endian": True} if system is None else system
    head = [pickle.dumps(part, protocol) for part in (MAGIC, 1001, system)]
    keys = pickle.dumps([storage.key for storage in storages], protocol)
    records = [struct.pack("<q", storage.count) + storage.content for storage in storages]
    return b"".join([*head, index, keys, *records])


FORMATS = {"zip": zip_file, "legacy": legacy_file}
both = pytest.mark.parametrize("form", FORMATS)
