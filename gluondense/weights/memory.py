"""Arrays of MXNet in memory that NumPy can fill: side by side in one block, or where they are.

Those that MXNet makes cost a call each, zeros a turn of its engine, and all of them the making of
their pages: for a DenseNet-121 and its gradients four times as long as reading its file. A block is
NumPy's, which asks for large pages, and makes none for zeros until they are written. MXNet gets its
parts as DLPack tensors, as by ``mx.nd.from_numpy``, which takes six times as long for each.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import math
import weakref
from collections.abc import Sequence
from itertools import repeat

import mxnet as mx
import numpy as np
from mxnet.base import _LIB, NDArrayHandle, check_call

# A DLManagedTensor of DLPack 0.2, which is what MXNet 1.9.1 takes.
_TENSOR = np.dtype(
    [
        ("data", np.uintp),
        ("device", np.int32, 2),
        ("ndim", np.int32),
        ("code", np.uint8),
        ("bits", np.uint8),
        ("lanes", np.uint16),
        ("shape", np.uintp),
        ("strides", np.uintp),
        ("byte_offset", np.uint64),
        ("manager", np.uintp),
        ("deleter", np.uintp),
    ]
)
_MANAGER = _TENSOR.fields["manager"][1]  # type: ignore[index]
_CPU, _FLOAT = 1, 2
# As MXNet aligns its own: oneDNN is slower otherwise.
_ALIGNMENT = 64


class _Block:
    """What must stay until the last of its arrays is gone; each of them holds a reference."""

    def __init__(self, memory: np.ndarray, dims: np.ndarray, tensors: np.ndarray) -> None:
        self.memory, self.dims, self.tensors = memory, dims, tensors


_blocks: weakref.WeakSet[_Block] = weakref.WeakSet()


@ctypes.CFUNCTYPE(None, ctypes.c_void_p)
def _release(tensor: int) -> None:
    """Let go of one array; MXNet calls it, maybe from a thread of its engine."""
    manager = ctypes.c_void_p.from_address(tensor + _MANAGER)
    ctypes.pythonapi.Py_DecRef(ctypes.cast(manager, ctypes.py_object))


@atexit.register
def _release_nothing_more() -> None:
    """Keep MXNet, which frees what is left behind the end of Python, from calling back then."""
    with contextlib.suppress(mx.MXNetError):
        mx.nd.waitall()
    for block in _blocks:
        block.tensors["deleter"] = 0


def make_arrays(
    shapes: Sequence[tuple[int, ...]], dtypes: Sequence[np.dtype], zeros: bool = False
) -> tuple[list[mx.nd.NDArray], list[np.ndarray]]:
    """Make arrays on the CPU in one block of memory, which stays until all of them are gone.

    Parameters
    ----------
    shapes, dtypes
        Of each; types of floating point.
    zeros
        Whether they are zero, which takes no time: pages are made when they are first used.

    Returns
    -------
    tuple
        The arrays, and the same memory as NumPy sees it, to be written before their first use.

    Examples
    --------
    >>> (array,), (memory,) = make_arrays([(2, 3)], [np.dtype(np.float32)])
    >>> memory[...] = 7
    >>> array.sum().asscalar()
    42.0
    """
    if not shapes:
        return [], []
    starts, end = [], 0
    for shape, dtype in zip(shapes, dtypes):
        if dtype.kind != "f":
            raise ValueError(f"arrays of {dtype} can't be made, only of float16, 32 and 64")
        starts.append(end)
        size = math.prod(shape) * dtype.itemsize
        end += -(-size // _ALIGNMENT) * _ALIGNMENT
    memory = (np.zeros if zeros else np.empty)(end + _ALIGNMENT, np.uint8)
    memory = memory[-memory.ctypes.data % _ALIGNMENT :]
    rows = zip(shapes, dtypes, repeat(memory), starts)
    views: list[np.ndarray] = [np.ndarray(*row) for row in rows]
    return _share(memory, starts, views), views


def _share(memory: np.ndarray, starts: list[int], views: list[np.ndarray]) -> list[mx.nd.NDArray]:
    """Give these parts of a block to MXNet."""
    rank = max(view.ndim for view in views)
    dims = np.array([view.shape + (1,) * (rank - view.ndim) for view in views], np.int64)
    tensors = np.zeros(len(views), _TENSOR)
    tensors["data"] = memory.ctypes.data + np.array(starts, np.uintp)
    tensors["device"] = _CPU, 0
    tensors["ndim"] = [view.ndim for view in views]
    tensors["code"] = _FLOAT
    tensors["bits"] = [8 * view.itemsize for view in views]
    tensors["lanes"] = 1
    tensors["shape"] = dims.ctypes.data + dims.itemsize * rank * np.arange(len(views))
    block = _Block(memory, dims, tensors)
    tensors["manager"] = id(block)
    tensors["deleter"] = ctypes.cast(_release, ctypes.c_void_p).value
    _blocks.add(block)
    arrays = []
    owner = ctypes.py_object(block)
    first = tensors.ctypes.data
    for address in range(first, first + tensors.nbytes, _TENSOR.itemsize):
        handle = NDArrayHandle()
        tensor = ctypes.c_void_p(address)
        ctypes.pythonapi.Py_IncRef(owner)
        check_call(_LIB.MXNDArrayFromDLPackEx(tensor, False, ctypes.byref(handle)))
        arrays.append(mx.nd.NDArray(handle))
    return arrays


def open_arrays(arrays: Sequence[mx.nd.NDArray]) -> list[np.ndarray]:
    """Show the memory of arrays on the CPU, to be written before their next use."""
    mx.nd.waitall()
    return [_view(array) for array in arrays]


def _view(array: mx.nd.NDArray) -> np.ndarray:
    pointer = ctypes.c_void_p()
    # This also brings the weights of oneDNN's convolutions into their usual order.
    check_call(_LIB.MXNDArrayGetData(array.handle, ctypes.byref(pointer)))
    shape, dtype = array.shape, np.dtype(array.dtype)
    memory = (ctypes.c_char * (math.prod(shape) * dtype.itemsize)).from_address(pointer.value or 0)
    return np.ndarray(shape, dtype, memory)
