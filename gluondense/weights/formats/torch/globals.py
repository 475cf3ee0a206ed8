"""What the classes and functions that a PyTorch file's pickle names stand for here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Callable, NamedTuple, Union

import numpy as np

from ..tensor_index import BadFile, shown

SAVE_AGAIN = "save only its state dict: torch.save(model.state_dict(), path)"


class Element(NamedTuple):
    """The type of a tensor's numbers."""

    dtype: np.dtype
    bfloat16: bool = False


class Storage(NamedTuple):
    """Bytes outside of the pickle: those from ``start`` on in the record ``key``."""

    element: Element
    key: str
    record_size: int
    start: int
    size: int


class Tensor(NamedTuple):
    """A view of a storage as the pickle describes it; nothing of it has been checked."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Function(NamedTuple):
    """What stands for a function or class; ``make`` builds a plain container or a tensor."""

    make: Callable[..., Any]


def find_global(module: str, name: str) -> Union[Element, Function]:
    """Look up the few that a state dict needs; any other is a :class:`BadFile`.

    An :class:`Element` stands for the types of numbers and for those of storages.
    """
    full = f"{module}.{name}"
    if full in _GLOBALS:
        return _GLOBALS[full]
    printable = shown(full)[1:-1]
    if full in _OTHER_TENSORS:
        raise BadFile(
            f"holds a {_OTHER_TENSORS[full]} tensor ({printable}); make it a dense one and"
            f" {SAVE_AGAIN}"
        )
    raise BadFile(
        f"asks for {printable}, and nothing but arrays and plain containers is made of a file;"
        f" if you trust it, load it with torch and {SAVE_AGAIN}"
    )


def find_storage(pid: Sequence[Any]) -> Storage:
    """Describe the storage that a persistent id names."""
    kind, element, key, _location, count, *view = pid
    if kind != "storage" or type(element) is not Element or type(key) is not str:
        raise TypeError
    if type(count) is not int or count < 0:
        raise TypeError
    if not view or view[0] is None:
        return whole_storage(element, key, count)
    _, start, viewed = view[0]
    size = element.dtype.itemsize
    return Storage(element, key, count * size, start * size, viewed * size)


def whole_storage(element: Element, key: str, count: int) -> Storage:
    """Describe the storage that is a record."""
    size = count * element.dtype.itemsize
    return Storage(element, key, size, 0, size)


def check_keys(keys: Iterable[Any]) -> None:
    """Let nothing into a dictionary whose hash takes long, or recurs until the stack is full."""
    if not set(map(type, keys)) <= {str, int, float, bool, type(None)}:
        raise BadFile(f"has a dictionary with keys other than names and numbers; {SAVE_AGAIN}")


def _ordered_dict(pairs: Sequence[tuple[Any, Any]] = ()) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    if pairs:
        check_keys(key for key, _ in pairs)
        made.update(pairs)
    return made


def _counter(counts: dict[Any, Any]) -> dict[Any, Any]:
    return _ordered_dict(list(counts.items()))


def _size(sizes: tuple[int, ...]) -> tuple[int, ...]:
    return sizes


def _tensor(storage: Storage, offset: int, shape: Any, strides: Any, *_: Any) -> Tensor:
    if type(storage) is not Storage:
        raise TypeError
    return Tensor(storage, offset, shape, strides)


def _typed_tensor(
    storage: Storage, offset: int, shape: Any, strides: Any, _grad: Any, _hooks: Any,
    element: Element, *_: Any,
) -> Tensor:  # fmt: skip
    if type(element) is not Element:
        raise TypeError
    return _tensor(storage._replace(element=element), offset, shape, strides)


def _parameter(data: Tensor, *_: Any) -> Tensor:
    return data


# NumPy has no bfloat16: its bytes are read as integers and widened later.
_ELEMENTS = {
    name: Element(np.dtype(code), bfloat16=name == "bfloat16")
    for name, code in (
        ("float64", "<f8"),
        ("float32", "<f4"),
        ("float16", "<f2"),
        ("bfloat16", "<u2"),
        ("int64", "<i8"),
        ("int32", "<i4"),
        ("int16", "<i2"),
        ("int8", "i1"),
        ("uint64", "<u8"),
        ("uint32", "<u4"),
        ("uint16", "<u2"),
        ("uint8", "u1"),
        ("bool", "?"),
    )
}
_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
TENSOR, ORDERED_DICT = Function(_tensor), Function(_ordered_dict)
_GLOBALS: dict[str, Union[Element, Function]] = {
    "collections.OrderedDict": ORDERED_DICT,
    "collections.Counter": Function(_counter),  # of learning rate schedules
    "torch.Size": Function(_size),
    "torch.device": Function(lambda *names: names),
    "torch.storage.UntypedStorage": _ELEMENTS["uint8"],
    "torch._utils._rebuild_tensor": TENSOR,
    "torch._utils._rebuild_tensor_v2": TENSOR,
    "torch._utils._rebuild_tensor_v3": Function(_typed_tensor),
    "torch._utils._rebuild_parameter": Function(_parameter),
    "torch._utils._rebuild_parameter_with_state": Function(_parameter),
    **{f"torch.{name}": element for name, element in _ELEMENTS.items()},
    **{
        f"{module}.{name}": _ELEMENTS[dtype]
        for module in ("torch", "torch.cuda")
        for name, dtype in _STORAGES.items()
    },
}
_OTHER_TENSORS = {
    "torch._utils._rebuild_sparse_tensor": "sparse",
    "torch._utils._rebuild_sparse_csr_tensor": "sparse",
    "torch._utils._rebuild_qtensor": "quantized",
    "torch._utils._rebuild_nested_tensor": "nested",
    "torch._utils._rebuild_meta_tensor_no_storage": "meta",
}
