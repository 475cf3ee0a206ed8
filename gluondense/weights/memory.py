"""Arrays of MXNet in memory that NumPy can fill: side by side in one block, or where they are.

Those that MXNet makes cost a call each, zeros a turn of its engine, and all of them the making of
their pages: for a DenseNet-121 and its gradients four times as long as reading its file. A block of
zeros is NumPy's, and has no pages until they are written; those of another can be made beside other
work. MXNet gets its parts as DLPack tensors, as by ``mx.nd.from_numpy``, which takes six times as
long for each.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import math
import mmap
import sys
import weakref
from collections.abc import Sequence
from itertools import accumulate, repeat

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
# MADV_POPULATE_WRITE of Linux. mmap.madvise would let no other thread run.
_POPULATE_WRITE, _PAGES_AT_ONCE = 23, 1 << 23
_madvise = ctypes.CDLL(None).madvise
# With plain addresses for arguments: objects of ctypes for each would take longer than the calls.
_from_dlpack = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_bool, ctypes.c_void_p)(
    ("MXNDArrayFromDLPackEx", _LIB)
)
_get_data = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(
    ("MXNDArrayGetData", _LIB)
)


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


def reserve(shapes: Sequence[tuple[int, ...]], dtypes: Sequence[np.dtype]) -> np.ndarray:
    """Reserve a block for such arrays, which has no pages until :func:`make_pages`, or their use.

    They are of the usual size. Large ones, which NumPy asks for, take a fifth of the time or thrice
    as long, where a virtual machine has given them back to its host.
    """
    *_, size = _layout(shapes, dtypes)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    return np.frombuffer(mmap.mmap(-1, max(size, 1), flags=flags), np.uint8)


def make_pages(memory: np.ndarray) -> None:
    """Make a block's pages now, which changes nothing in it, and lets Python's other threads run.

    Where Linux can't, before 5.14, and on other systems nothing is done.
    """
    if not sys.platform.startswith("linux"):
        return
    start, end = memory.ctypes.data, memory.ctypes.data + memory.nbytes
    # Part by part: whoever asks for memory meanwhile waits for the end of a call.
    for at in range(start, end, _PAGES_AT_ONCE):
        part = ctypes.c_size_t(min(_PAGES_AT_ONCE, end - at))
        if _madvise(ctypes.c_void_p(at), part, _POPULATE_WRITE):
            return


def make_arrays(
    shapes: Sequence[tuple[int, ...]],
    dtypes: Sequence[np.dtype],
    memory: np.ndarray | None = None,
) -> tuple[list[mx.nd.NDArray], list[np.ndarray]]:
    """Make arrays on the CPU in one block of memory, which stays until all of them are gone.

    Parameters
    ----------
    shapes, dtypes
        Of each; types of floating point.
    memory
        A block of :func:`reserve` that has room for them; by default a new one of zeros, whose
        pages are made when they are first used.

    Returns
    -------
    tuple
        The arrays, and the same memory as NumPy sees it, to be written before their first use.

    Examples
    --------
    >>> (array,), (view,) = make_arrays([(2, 3)], [np.dtype(np.float32)])
    >>> view[...] = 7
    >>> array.sum().asscalar()
    42.0
    """
    if not shapes:
        return [], []
    for dtype in set(dtypes):
        if dtype.kind != "f":
            raise ValueError(f"arrays of {dtype} can't be made, only of float16, 32 and 64")
    *starts, end = _layout(shapes, dtypes)
    if memory is None:
        memory = np.zeros(end + _ALIGNMENT, np.uint8)
        memory = memory[-memory.ctypes.data % _ALIGNMENT :]
    rows = zip(shapes, dtypes, repeat(memory), starts)
    views: list[np.ndarray] = [np.ndarray(*row) for row in rows]
    return _share(memory, starts, views), views


def _layout(shapes: Sequence[tuple[int, ...]], dtypes: Sequence[np.dtype]) -> list[int]:
    """Say where in a block each begins, and behind them where it ends."""
    sizes = (math.prod(shape) * dtype.itemsize for shape, dtype in zip(shapes, dtypes))
    aligned = (-(-size // _ALIGNMENT) * _ALIGNMENT for size in sizes)
    return list(accumulate(aligned, initial=0))


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
    owner, refer = ctypes.py_object(block), ctypes.pythonapi.Py_IncRef
    handles = np.zeros(len(views), np.uintp)
    for tensor, handle in zip(_addresses(tensors), _addresses(handles)):
        refer(owner)
        check_call(_from_dlpack(tensor, False, handle))
    return [mx.nd.NDArray(NDArrayHandle(handle)) for handle in handles.tolist()]


def _addresses(rows: np.ndarray) -> range:
    """Where each element of an array of one dimension is."""
    first = rows.ctypes.data
    return range(first, first + rows.nbytes, rows.itemsize)


def open_arrays(
    arrays: Sequence[mx.nd.NDArray],
    shapes: Sequence[tuple[int, ...]],
    dtypes: Sequence[np.dtype],
) -> list[np.ndarray]:
    """Show the memory of arrays on the CPU, to be written before their next use.

    Parameters
    ----------
    arrays
        Some that nothing computes with meanwhile.
    shapes, dtypes
        Of each, which to ask it takes longer than all the rest.
    """
    mx.nd.waitall()
    pointers = np.zeros(len(arrays), np.uintp)
    for array, pointer in zip(arrays, _addresses(pointers)):
        # This also brings the weights of oneDNN's convolutions into their usual order.
        check_call(_get_data(array.handle, pointer))
    views: list[np.ndarray] = []
    for start, shape, dtype in zip(pointers.tolist(), shapes, dtypes):
        memory = (ctypes.c_char * (math.prod(shape) * dtype.itemsize)).from_address(start)
        views.append(np.ndarray(shape, dtype, memoryview(memory)))
    return views
