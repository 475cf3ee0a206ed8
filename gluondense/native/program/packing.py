"""Numbers in the form and order in which the inner loops read them."""

from __future__ import annotations

import numpy as np

BLOCK = 32  # kBlock of src/kernels.h
# column() of src/kernels_bytes.cc, for the 32 lanes of two vectors.
COLUMNS = np.array([lane // 4 * 8 + v * 4 + lane % 4 for v in range(2) for lane in range(16)])


def pack_filters(
    weight: np.ndarray, bias: np.ndarray, groups: int
) -> tuple[dict[str, int], tuple[np.ndarray, np.ndarray]]:
    """Arrange filters (N, C, H, W) in blocks (H, W, C, 32) of output channels.

    A block has whole groups, as many as fit into 16 channels, or an equal part of one.

    Examples
    --------
    >>> weight, bias = np.zeros((48, 3, 7, 7)), np.zeros(48)
    >>> blocks, (filters, biases) = pack_filters(weight, bias, groups=1)
    >>> blocks
    {'blocks': 2, 'block_in': 3, 'block_step': 0, 'block_share': 1, 'block_out': 32,
     'block_groups': 1}
    >>> filters.shape, biases.shape
    ((2, 7, 7, 3, 32), (2, 32))
    """
    count, depth = weight.shape[:2]
    each = count // groups
    if groups == 1:
        together, share, width, blocks = 1, 1, BLOCK, -(-count // BLOCK)
    elif each <= BLOCK // 4:
        together = max(n for n in range(1, BLOCK // 2 // each + 1) if groups % n == 0)
        share, width, blocks = 1, together * each, groups // together
    else:
        share = next(n for n in range(1, each + 1) if each % n == 0 and each // n <= BLOCK)
        together, width, blocks = 1, each // share, groups * share
    filters = np.zeros((blocks, *weight.shape[2:], depth * together, BLOCK), "float32")
    biases = np.zeros((blocks, BLOCK), "float32")
    for channel in range(count):
        block, lane = divmod(channel, width)
        first = channel // each % together * depth
        filters[block, :, :, first : first + depth, lane] = weight[channel].transpose(1, 2, 0)
        biases[block, lane] = bias[channel]
    sizes = {
        "blocks": blocks,
        "block_in": depth * together,
        "block_step": 0 if groups == 1 else depth * together,
        "block_share": share,
        "block_out": width,
        "block_groups": together,
    }
    return sizes, (filters, biases)


def pack_bytes(filters: np.ndarray, joined: bool) -> np.ndarray:
    """Arrange blocks (blocks, H, W, C, 32) of filters for sums of four products at a time.

    Parameters
    ----------
    filters
        What ``pack_filters`` returns, of whole numbers from -127 to 127.
    joined
        Whether a filter's columns lie side by side in the image, as one run.
    """
    blocks, height, width = filters.shape[:3]
    runs = filters.reshape(blocks, height if joined else height * width, -1, BLOCK)
    runs = np.pad(runs, ((0, 0), (0, 0), (0, -runs.shape[2] % 4), (0, 0)))
    fours = runs.reshape(blocks, runs.shape[1], -1, 4, BLOCK)[..., COLUMNS]
    return np.ascontiguousarray(fours.swapaxes(-1, -2)).astype("int8")


def in_columns(values: np.ndarray, width: int) -> np.ndarray:
    """Arrange a number for each channel in blocks of lanes, as the sums lie."""
    blocks = -(-len(values) // width)
    lanes = np.zeros((blocks, BLOCK))
    padded = np.pad(np.asarray(values, "float64"), (0, blocks * width - len(values)))
    lanes[:, :width] = padded.reshape(blocks, width)
    return lanes[:, COLUMNS]


def rectify(
    scale: np.ndarray, shift: np.ndarray, step: np.ndarray, low: np.ndarray, on: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return flip and zero of bytes, so that max(0, (q ^ flip) - zero) stands for a ReLU.

    Parameters
    ----------
    scale, shift
        Of the normalization, max(0, scale x + shift).
    step, low
        Of the bytes, x = low + step q.
    on
        Whether there is a ReLU behind the normalization.

    Returns
    -------
    flip, zero, factor, offset
        Two arrays of bytes, and what the result's bytes stand for: offset + factor q.

    Examples
    --------
    >>> scale, shift = np.array([2.0, -2.0, 1.0]), np.array([-8.0, 8.0, 5.0])
    >>> for found in rectify(scale, shift, step=np.ones(3), low=np.zeros(3)):
    ...     print(found)
    [  0 255   0]
    [  4 251   0]
    [2. 2. 1.]
    [0. 0. 5.]
    """
    falling = scale < 0
    flip = np.where(falling, 255, 0)
    factor = np.abs(scale) * step
    # What the smallest byte, after the flip, stands for.
    least = scale * (low + np.where(falling, 255, 0) * step) + shift
    if not on:
        return flip.astype("uint8"), np.zeros(len(flip), "uint8"), factor, least
    flat = factor == 0
    zero = np.where(flat, 255, np.round(-least / np.where(flat, 1, factor)).clip(0, 255))
    offset = np.where(flat, np.maximum(shift, 0), np.maximum(least, 0))
    return flip.astype("uint8"), zero.astype("uint8"), factor, offset
