"""Helpers of the tests of weights files."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import strategies as st

from gluondense.weights.formats.open import open_weights

RANDOM = np.random.default_rng(0)
WEIGHT = RANDOM.normal(size=(4, 3, 2, 2)).astype(np.float32)
NET = {
    "conv.weight": WEIGHT,
    "norm.weight": RANDOM.normal(size=4),
    "norm.running_var": RANDOM.normal(size=4).astype(np.float16),
    "bytes": np.arange(6, dtype=np.uint8).reshape(2, 3),
    "small": np.arange(-3, 3, dtype=np.int8),
    "int": np.arange(-3, 3, dtype=np.int32),
    "long": np.arange(-3, 3, dtype=np.int64).reshape(1, 6, 1),
}
# Arrays that MXNet lacks.
SCALARS = {
    "norm.num_batches_tracked": np.array(7),
    "mask": np.array([True, False]),
    "short": np.arange(-3, 3, dtype=np.int16),
    "empty": np.zeros((0, 3), np.float32),
}


def write(folder, content: bytes):
    path = folder / "net.pth"
    path.write_bytes(content)
    return path


def read(path) -> dict[str, np.ndarray]:
    with open_weights(path) as file:
        return dict(file)


def refusal(path) -> str:
    """Return the error of `open_weights`: one line that begins with the path."""
    with pytest.raises(ValueError, match=r"\S") as caught:
        read(path)
    assert type(caught.value) is ValueError
    check_message(str(caught.value), path)
    return str(caught.value)


def check_message(message: str, path) -> None:
    assert message.startswith(f"{path} ")
    assert message.isprintable()
    assert len(message) < 400 + len(str(path))


def refuse_truncations(folder, content: bytes) -> None:
    """Check that a file is refused wherever it is truncated."""
    for size in [*range(0, len(content) - 1, 5), len(content) - 1]:
        refusal(write(folder, content[:size]))


def read_or_refuse(path) -> None:
    """Check that a file is read, or refused with a ValueError, in little memory."""
    tracemalloc.start()
    refused = None
    try:
        with open_weights(path) as file:
            for name, array in file.items():
                assert array.shape == file.shapes[name]
                assert array.dtype == file.dtypes[name]
    except ValueError as error:
        refused = str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 4 << 20
    if refused is not None:
        check_message(refused, path)


def assert_same(arrays, expected) -> None:
    assert list(arrays) == list(expected)
    for name, array in arrays.items():
        assert array.dtype == expected[name].dtype
        assert array.shape == expected[name].shape
        assert array.flags.c_contiguous
        np.testing.assert_array_equal(array, expected[name])


def read_damaged(tmp_path_factory, data, content: bytes) -> None:
    """Check that a randomly damaged file is read, or refused with a ValueError."""
    read_or_refuse(write(tmp_path_factory.mktemp("damaged"), data.draw(damaged(content))))


@st.composite
def damaged(draw, content: bytes) -> bytes:
    """Draw the content with a few changed bytes, possibly truncated."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(changed) - 1))
        changed[at] ^= draw(st.integers(1, 255))
    return bytes(changed[: draw(st.integers(0, len(changed)) | st.just(len(changed)))])
