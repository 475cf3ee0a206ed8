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
    """Make the pages of a block of zeros now; Python's other threads can run meanwhile.

    Zeros are read into it: to ask Linux for the pages (``MADV_POPULATE_WRITE``) takes a fifth less,
    but whoever needs memory meanwhile waits for the end of that.
    """
    with contextlib.suppress(OSError), open("/dev/zero", "rb", buffering=0) as zeros:
        zeros.readinto(memory.data)


def make_arrays(
    shapes: Sequence[tuple[int, ...]], dtypes: Sequence[np.dtype]
) -> tuple[list[mx.nd.NDArray], list[np.ndarray]]:
    """Make arrays of zeros on the CPU in one block, whose pages are made when they are first used.

    Parameters
    ----------
    shapes, dtypes
        Of each; types of floating point.

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
    *_, size = _layout(shapes, dtypes)
    memory = np.zeros(size + _ALIGNMENT, np.uint8)
    views = divide(memory[-memory.ctypes.data % _ALIGNMENT :], shapes, dtypes)
    return share(views), views


def divide(
    memory: np.ndarray, shapes: Sequence[tuple[int, ...]], dtypes: Sequence[np.dtype]
) -> list[np.ndarray]:
    """Lay arrays side by side in a block that has room for them."""
    rows = zip(shapes, dtypes, repeat(memory), _layout(shapes, dtypes))
    return [np.ndarray(*row) for row in rows]


def share(views: Sequence[np.ndarray]) -> list[mx.nd.NDArray]:
    """Make arrays of MXNet of the parts of one block, which stays until all of them are gone.

    Parameters
    ----------
    views
        All that :func:`divide` made of it. Their values may be written until an array is used.

    Raises
    ------
    ValueError
        If their numbers are not of floating point.
    """
    if not views:
        return []
    for dtype in {view.dtype for view in views}:
        if dtype.kind != "f":
            raise ValueError(f"arrays of {dtype} can't be made, only of float16, 32 and 64")
    first = views[0]  # where the block begins, and what keeps it
    *starts, _ = _layout([view.shape for view in views], [view.dtype for view in views])
    rank = max(view.ndim for view in views)
    dims = np.array([view.shape + (1,) * (rank - view.ndim) for view in views], np.int64)
    tensors = np.zeros(len(views), _TENSOR)
    tensors["data"] = first.ctypes.data + np.array(starts, np.uintp)
    tensors["device"] = _CPU, 0
    tensors["ndim"] = [view.ndim for view in views]
    tensors["code"] = _FLOAT
    tensors["bits"] = [8 * view.itemsize for view in views]
    tensors["lanes"] = 1
    tensors["shape"] = dims.ctypes.data + dims.itemsize * rank * np.arange(len(views))
    block = _Block(first, dims, tensors)
    tensors["manager"] = id(block)
    tensors["deleter"] = ctypes.cast(_release, ctypes.c_void_p).value
    _blocks.add(block)
    owner, refer = ctypes.py_object(block), ctypes.pythonapi.Py_IncRef
    handles = np.zeros(len(views), np.uintp)
    for tensor, handle in zip(_addresses(tensors), _addresses(handles)):
        refer(owner)
        check_call(_from_dlpack(tensor, False, handle))
    return [mx.nd.NDArray(NDArrayHandle(handle)) for handle in handles.tolist()]


def _layout(shapes: Sequence[tuple[int, ...]], dtypes: Sequence[np.dtype]) -> list[int]:
    """Say where in a block each begins, and behind them where it ends."""
    sizes = (math.prod(shape) * dtype.itemsize for shape, dtype in zip(shapes, dtypes))
    aligned = (-(-size // _ALIGNMENT) * _ALIGNMENT for size in sizes)
    return list(accumulate(aligned, initial=0))


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
