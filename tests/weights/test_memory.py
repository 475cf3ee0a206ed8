"""Arrays in one block of memory: what they hold, how long they live, and how Python ends."""

from __future__ import annotations

import ctypes
import gc
import mmap
import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest

from gluondense.weights import memory
from gluondense.weights.memory import divide, make_arrays, make_pages, open_arrays, reserve, share

SHAPES = [(2, 3), (5,), (1, 2, 3, 4), (7,)]
DTYPES = [np.dtype(name) for name in ("float32", "float64", "float16", "float32")]


def test_both_sides_see_the_same():
    arrays, views = make_arrays(SHAPES, DTYPES)
    for index, (array, view, shape, dtype) in enumerate(zip(arrays, views, SHAPES, DTYPES)):
        view[...] = index
        assert (array.shape, array.dtype, array.context) == (shape, dtype, mx.cpu())
        assert (view.shape, view.dtype) == (shape, dtype)
        assert view.ctypes.data % 64 == 0
    for index, (array, view) in enumerate(zip(arrays, views)):
        assert (array.asnumpy() == index).all()
        array += 1
        array.wait_to_read()
        assert (view == index + 1).all()


def test_zeros_are_zero():
    arrays, _ = make_arrays(SHAPES, DTYPES)
    assert not any(array.asnumpy().any() for array in arrays)


def pages(block: np.ndarray) -> tuple[int, int]:
    """How many a block has, and how many it can have."""
    most = -(-block.nbytes // mmap.PAGESIZE)
    state = (ctypes.c_ubyte * most)()
    address, size = ctypes.c_void_p(block.ctypes.data), ctypes.c_size_t(block.nbytes)
    assert ctypes.CDLL(None).mincore(address, size, state) == 0
    return sum(page & 1 for page in state), most


def test_a_reserved_block_has_no_pages_until_they_are_made():
    block = reserve([(3, 1000, 1001), (5,)], [np.dtype("float32")] * 2)
    have, most = pages(block)
    assert have == 0
    make_pages(block)
    have, _ = pages(block)
    assert have == most
    assert not block.any()


def test_arrays_in_a_reserved_block():
    block = reserve(SHAPES, DTYPES)
    make_pages(block)
    views = divide(block, SHAPES[1:], DTYPES[1:])
    arrays = share(views)
    assert all(np.shares_memory(view, block) for view in views)
    views[2][...] = 5
    del block, views
    gc.collect()
    assert (arrays[2].asnumpy() == 5).all()


def test_a_block_of_nothing():
    make_pages(reserve([], []))
    make_pages(reserve([(0, 3)], DTYPES[:1]))


def test_none_are_none():
    assert make_arrays([], []) == ([], [])
    assert open_arrays([], [], []) == []


@pytest.mark.parametrize("dtype", ["int32", "bool", [("bfloat16", np.uint16)]])
def test_only_floating_point(dtype):
    with pytest.raises(ValueError, match="can't be made"):
        make_arrays([(2,)], [np.dtype(dtype)])


def test_a_block_stays_until_the_last_array_is_gone():
    gc.collect()
    before = len(memory._blocks)
    arrays, views = make_arrays(SHAPES, DTYPES)
    views[1][...] = 3
    del views
    last = arrays[1]
    del arrays
    later = last + 1
    assert len(memory._blocks) == before + 1
    assert (last.asnumpy() == 3).all()
    alias = last.detach()
    del last
    assert (alias.asnumpy() == 3).all()
    del alias
    mx.nd.waitall()
    gc.collect()
    assert len(memory._blocks) == before
    assert (later.asnumpy() == 4).all()


def test_open_arrays_have_the_usual_order_of_a_convolution_s_weight():
    """oneDNN keeps it in an order of its own once it has predicted."""
    net = mx.gluon.nn.Conv2D(32, 3, in_channels=16)
    net.initialize()
    net.hybridize()
    weight = net.weight.data().asnumpy()
    x = mx.nd.ones((1, 16, 8, 8))
    net(x)
    (view,) = open_arrays([net.weight.data()], [(32, 16, 3, 3)], [np.dtype(np.float32)])
    np.testing.assert_array_equal(view, weight)
    expected = 2 * net(x).asnumpy()
    (view,) = open_arrays([net.weight.data()], [(32, 16, 3, 3)], [np.dtype(np.float32)])
    view *= 2
    np.testing.assert_allclose(net(x).asnumpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("keep", ["", "del arrays, views, x", "mx.kept = arrays"])
def test_python_ends_in_peace(keep):
    """While the engine still computes, whoever frees the arrays and whenever."""
    code = f"""if True:
        import gluondense
        import mxnet as mx
        import numpy as np
        from gluondense.weights.memory import make_arrays
        arrays, views = make_arrays([(500, 500)] * 20, [np.dtype("float32")] * 20)
        cycle = [arrays]
        cycle.append(cycle)
        for x in arrays:
            for _ in range(5):
                y = mx.nd.dot(x, x)
        {keep}
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
