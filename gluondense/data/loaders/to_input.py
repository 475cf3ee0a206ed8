# SPDX-License-Identifier: Apache-2.0
"""Batches of a loader copied to a device, and normalized there.

A GPU gets bytes from pinned memory: a quarter of what float32 takes, without a wait of the host. It
computes what :func:`..transforms.augmented.to_input` computes for a CPU, within rounding.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Optional

import mxnet as mx
import numpy as np
from mxnet.ndarray import NDArray

from ..transforms.augmented import input_matrices, pixels_of, to_input
from ..transforms.batch import scale_and_shift

_BUFFERS = 2  # one is filled while the copy from the other is under way


class DeviceCopy:
    """Copies NumPy arrays to devices; to a GPU through pinned memory, without waiting for the copy.

    The pinned buffers are allocated once for each device and kind of array, because MXNet 1.9.1
    allocates and frees pinned memory with ``cudaHostAlloc`` and ``cudaFreeHost`` each time, and
    these synchronize the device. A buffer is not overwritten before it has been copied.

    Examples
    --------
    >>> DeviceCopy()(np.zeros((2, 3), np.uint8), mx.cpu()).dtype
    <class 'numpy.uint8'>
    """

    def __init__(self) -> None:
        self._buffers: dict[Any, deque[Optional[NDArray]]] = {}

    def __call__(self, array: np.ndarray, device: mx.Context) -> NDArray:
        """Return the array on the device; its memory may be reused at once."""
        if device.device_type != "gpu":
            return mx.nd.array(array, device, array.dtype)
        return self.stage(array, device).copyto(device)

    def stage(self, array: np.ndarray, device: mx.Context) -> NDArray:
        """Return the array in pinned memory, which a later call reuses."""
        key = device, array.dtype, array.shape[1:]
        buffers = self._buffers.setdefault(key, deque([None] * _BUFFERS))
        buffers.rotate()
        buffer = buffers[0]
        if buffer is None or len(buffer) < len(array):
            buffers[0] = buffer = mx.nd.empty(array.shape, mx.cpu_pinned(), array.dtype)
        view = buffer[: len(array)]
        view[:] = array  # waits until the previous copy from this buffer has finished
        return view


class ToInput:
    """Makes the network's input on a device from a part of a loader's batch.

    Parameters
    ----------
    mean, std
        Values per channel, for pixels scaled to [0, 1]. None for both copies the pixels as they
        are, for an exported graph that normalizes them.
    copy
        Copies arrays to devices.

    Examples
    --------
    >>> ToInput((0.5,), (0.25,))(np.full((1, 1, 1, 1), 255, np.uint8), mx.cpu()).asnumpy().item()
    2.0
    """

    def __init__(
        self,
        mean: Optional[Sequence[float]] = None,
        std: Optional[Sequence[float]] = None,
        copy: Optional[DeviceCopy] = None,
    ) -> None:
        self._mean, self._std = mean, std
        self.copy = copy or DeviceCopy()

    def __call__(self, images: np.ndarray, device: mx.Context) -> NDArray:
        """Return the input of images, whose memory may be reused at once.

        ``images`` are pixels uint8 (N, H, W, C), records (N,) of
        :func:`..transforms.augmented.augmented_dtype`, or inputs, which are only copied: features
        or float32 (N, C, H, W).
        """
        if self._mean is None or self._std is None or images.dtype == np.float32:
            return self.copy(images, device)
        if device.device_type == "cpu":
            return self.copy(to_input(images, self._mean, self._std), device)
        return input_on_device(images, self._mean, self._std, device, self.copy)


def input_on_device(
    images: np.ndarray,
    mean: Sequence[float],
    std: Sequence[float],
    device: mx.Context,
    copy: DeviceCopy,
) -> NDArray:
    """Copy pixels, and what records have beside them; then compute the input on the device."""
    pixels = copy(pixels_of(images), device)
    names = images.dtype.names or ()
    if "color" in names:
        x = _transform(pixels, copy(input_matrices(images, mean, std), device))
    else:
        x = _normalize(pixels, *scale_and_shift(mean, std))
    if "box" not in names or not images["box"].any():
        return x
    counts = x.shape[1] * images["box"][:, 2] * images["box"][:, 3]
    noise = np.concatenate([row[:count] for row, count in zip(images["noise"], counts)])
    first = np.cumsum(counts, dtype=np.int32) - counts
    boxes = np.column_stack([images["box"], first]).astype(np.int32)
    return _erase(x, copy(boxes, device), copy(noise, device))


def _normalize(pixels: NDArray, scale: np.ndarray, shift: np.ndarray) -> NDArray:
    """Normalize pixels (N, H, W, C) to (N, C, H, W), with the rounding of ``batch.normalize``."""
    planes = [
        pixels.slice_axis(3, channel, channel + 1).squeeze(3).astype("float32") * factor + offset
        for channel, (factor, offset) in enumerate(zip(scale.tolist(), shift.tolist()))
    ]
    return mx.nd.stack(*planes, axis=1)


def _transform(pixels: NDArray, matrices: NDArray) -> NDArray:
    """Apply a matrix (3, 4) to the colours of each image (H, W, 3); return (N, 3, H, W)."""
    # Elementwise, because GPUs since Ampere round the inputs of a matrix product to 10 bits (TF32).
    planes = pixels.transpose((0, 3, 1, 2)).astype("float32")
    *columns, x = (matrices.slice_axis(2, c, c + 1).expand_dims(3) for c in range(4))
    for channel, column in enumerate(columns):
        plane = planes.slice_axis(1, channel, channel + 1)
        x = mx.nd.broadcast_add(x, mx.nd.broadcast_mul(plane, column))
    return x


def _erase(x: NDArray, boxes: NDArray, noise: NDArray) -> NDArray:
    """Replace a box of each image (C, H, W) by its part of ``noise``.

    ``boxes`` are int32 (N, 5): top, left, height, width, and the index of the box's first number.
    """
    count, channels, height, width = x.shape
    top, left, box_height, box_width, first = (
        boxes.slice_axis(1, column, column + 1).reshape((count, 1, 1, 1)) for column in range(5)
    )

    def positions(size: int, shape: tuple[int, ...]) -> NDArray:
        return mx.nd.arange(size, dtype="int32", ctx=x.context).reshape(shape)

    row = mx.nd.broadcast_sub(positions(height, (1, 1, height, 1)), top)
    column = mx.nd.broadcast_sub(positions(width, (1, 1, 1, width)), left)
    inside_rows = (row >= 0) * mx.nd.broadcast_lesser(row, box_height)
    inside_columns = (column >= 0) * mx.nd.broadcast_lesser(column, box_width)
    plane = mx.nd.broadcast_mul(positions(channels, (1, channels, 1, 1)), box_height)
    line = mx.nd.broadcast_mul(mx.nd.broadcast_add(plane, row), box_width)
    index = mx.nd.broadcast_add(mx.nd.broadcast_add(line, column), first)
    inside = mx.nd.broadcast_mul(inside_rows, inside_columns).broadcast_like(x)
    return mx.nd.where(inside, noise.take(index, mode="clip"), x)
