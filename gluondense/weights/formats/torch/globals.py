# SPDX-License-Identifier: Apache-2.0
"""The classes and functions that a PyTorch file's pickle may name, and their substitutes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Callable, NamedTuple, Union

import numpy as np

from ..tensor_index import DTYPES, BadFile, quote

SAVE_AGAIN = "save only its state dict: torch.save(model.state_dict(), path)"


class Storage(NamedTuple):
    """A byte range outside the pickle: ``size`` bytes from ``start`` in the record ``key``."""

    dtype: np.dtype
    key: str
    record_size: int
    start: int
    size: int


class Tensor(NamedTuple):
    """A view of a storage as the pickle describes it, unchecked; offset and strides in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def find_global(module: str, name: str) -> Union[np.dtype, Callable[..., Any]]:
    """Return the substitute for a class or function: a dtype, or a function that builds plain data.

    Raises :class:`BadFile` for a global that no state dict needs.
    """
    full = f"{module}.{name}"
    if full in _GLOBALS:
        return _GLOBALS[full]
    text = quote(full)[1:-1]
    if full in _OTHER_TENSORS:
        raise BadFile(
            f"holds a {_OTHER_TENSORS[full]} tensor ({text}); make it a dense one and {SAVE_AGAIN}"
        )
    raise BadFile(
        f"asks for {text}, but only arrays and plain containers are loaded;"
        f" if you trust it, load it with torch and {SAVE_AGAIN}"
    )


def find_storage(pid: Sequence[Any]) -> Storage:
    """Describe the storage of a persistent id; raise TypeError if the id is malformed."""
    kind, dtype, key, _location, count, *view = pid
    if kind != "storage" or not isinstance(dtype, np.dtype) or type(key) is not str:
        raise TypeError
    if type(count) is not int or count < 0:
        raise TypeError
    size = count * dtype.itemsize
    if not view or view[0] is None:
        return Storage(dtype, key, size, 0, size)
    _, start, viewed = view[0]
    return Storage(dtype, key, size, start * dtype.itemsize, viewed * dtype.itemsize)


def check_keys(keys: Iterable[Any]) -> None:
    """Accept only dictionary keys whose hash is fast; that of nested tuples overflows the stack."""
    if not set(map(type, keys)) <= {str, int, float, bool, type(None)}:
        raise BadFile(f"has a dictionary with keys other than names and numbers; {SAVE_AGAIN}")


def _ordered_dict(pairs: Sequence[tuple[Any, Any]] = ()) -> dict[Any, Any]:
    check_keys(key for key, _ in pairs)
    return dict(pairs)


def _counter(counts: dict[Any, Any]) -> dict[Any, Any]:
    return _ordered_dict(list(counts.items()))


def _device(*names: Any) -> tuple[Any, ...]:
    return names


def _tensor(storage: Storage, offset: int, shape: Any, strides: Any, *_: Any) -> Tensor:
    if type(storage) is not Storage:
        raise TypeError
    return Tensor(storage, offset, shape, strides)


def _typed_tensor(
    storage: Storage, offset: int, shape: Any, strides: Any, _grad: Any, _hooks: Any,
    dtype: np.dtype, *_: Any,
) -> Tensor:  # fmt: skip
    if not isinstance(dtype, np.dtype):
        raise TypeError
    return _tensor(storage._replace(dtype=dtype), offset, shape, strides)


def _first(value: Any, *_: Any) -> Any:
    return value


_STORAGES = {
    "Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16",
    "Long": "int64", "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8",
    "Bool": "bool",
}  # fmt: skip
_GLOBALS: dict[str, Union[np.dtype, Callable[..., Any]]] = {
    "collections.OrderedDict": _ordered_dict,
    "collections.Counter": _counter,  # in the state of learning rate schedules
    "torch.Size": _first,
    "torch.device": _device,
    "torch.storage.UntypedStorage": DTYPES["uint8"],
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    **{f"torch.{name}": dtype for name, dtype in DTYPES.items()},
    **{
        f"{module}.{name}Storage": DTYPES[dtype]
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
