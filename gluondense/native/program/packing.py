# SPDX-License-Identifier: Apache-2.0
"""Weights in the layouts that the kernels read: see src/kernels/inference_kernels.h."""

from __future__ import annotations

import numpy as np

PANEL_WIDTH = 32  # kPanelWidth
DEPTHWISE_WIDTH = 16  # kGroupedWidth
# The output channel of each lane of the sums over bytes: panel_channel() of src/kernels/per_isa.
PANEL_CHANNELS = np.array([i // 4 * 8 + v * 4 + i % 4 for v in range(2) for i in range(16)])


def pack_filters(
    weight: np.ndarray, bias: np.ndarray, groups: int
) -> tuple[dict[str, int], tuple[np.ndarray, np.ndarray]]:
    """Pack filters into panels of output channels.

    A panel has as many whole groups as fit into 16 output channels, or an equal part of a group.
    Filters (N, C, KH, KW) and biases (N,) become (panels, KH, KW, C, 32) and (panels, 32), behind
    the panels' sizes as words of a program.

    Examples
    --------
    >>> weight, bias = np.zeros((48, 3, 7, 7)), np.zeros(48)
    >>> words, (filters, biases) = pack_filters(weight, bias, groups=1)
    >>> words
    {'blocks': 2, 'block_in': 3, 'block_step': 0, 'block_share': 1, 'block_out': 32,
     'block_groups': 1}
    >>> filters.shape, biases.shape
    ((2, 7, 7, 3, 32), (2, 32))
    """
    count, depth = weight.shape[:2]
    group_outputs = count // groups
    groups_per_panel, panels_per_group = 1, 1
    if groups == 1:
        width, panels = PANEL_WIDTH, -(-count // PANEL_WIDTH)
    elif group_outputs <= PANEL_WIDTH // 4:
        fitting = range(1, PANEL_WIDTH // 2 // group_outputs + 1)
        groups_per_panel = max(n for n in fitting if groups % n == 0)
        width, panels = groups_per_panel * group_outputs, groups // groups_per_panel
    else:
        parts = (n for n in range(1, group_outputs + 1) if group_outputs % n == 0)
        panels_per_group = next(n for n in parts if group_outputs // n <= PANEL_WIDTH)
        width, panels = group_outputs // panels_per_group, groups * panels_per_group
    panel_in = depth * groups_per_panel
    filters = np.zeros((panels, *weight.shape[2:], panel_in, PANEL_WIDTH), "float32")
    biases = np.zeros((panels, PANEL_WIDTH), "float32")
    for channel in range(count):
        panel, lane = divmod(channel, width)
        first = channel // group_outputs % groups_per_panel * depth
        filters[panel, :, :, first : first + depth, lane] = weight[channel].transpose(1, 2, 0)
        biases[panel, lane] = bias[channel]
    words = {"blocks": panels, "block_in": panel_in, "block_step": 0 if groups == 1 else panel_in}
    words.update(block_share=panels_per_group, block_out=width, block_groups=groups_per_panel)
    return words, (filters, biases)


def pack_depthwise_filters(weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pack filters of a convolution of each channel, (C, 1, KH, KW), and its biases, (C,).

    They become (panels, KH, KW, 16) and (panels * 16), with zeros behind the last channel.

    Examples
    --------
    >>> filters, biases = pack_depthwise_filters(np.ones((24, 1, 7, 7)), np.ones(24))
    >>> filters.shape, biases.shape, filters.sum() == 24 * 7 * 7
    ((2, 7, 7, 16), (32,), True)
    """
    padding = (0, -len(bias) % DEPTHWISE_WIDTH)
    filters = np.pad(weight[:, 0], (padding, (0, 0), (0, 0)))
    filters = filters.reshape(-1, DEPTHWISE_WIDTH, *weight.shape[2:])
    return filters.transpose(0, 2, 3, 1), np.pad(bias, padding)


def pack_int8_filters(filters: np.ndarray, joined: bool) -> np.ndarray:
    """Pack panels of integer filters for sums of four products at a time.

    ``filters`` are integers from -127 to 127, (panels, KH, KW, C, 32), as ``pack_filters`` returns
    them. If the inputs of a row of taps are contiguous (``joined``), the row is one segment. The
    result is int8, (panels, segments, length / 4, 32, 4), with zeros up to a multiple of 4.
    """
    panels, height, width = filters.shape[:3]
    segments = filters.reshape(panels, height if joined else height * width, -1, PANEL_WIDTH)
    segments = np.pad(segments, ((0, 0), (0, 0), (0, -segments.shape[2] % 4), (0, 0)))
    fours = segments.reshape(panels, segments.shape[1], -1, 4, PANEL_WIDTH)[..., PANEL_CHANNELS]
    return np.ascontiguousarray(fours.swapaxes(-1, -2)).astype("int8")


def pack_lanes(values: np.ndarray, width: int) -> np.ndarray:
    """Pack a number for each output channel, (N,), in the order of the sums over bytes.

    The result is (panels, 32); a panel has ``width`` output channels.
    """
    panels = -(-len(values) // width)
    lanes = np.zeros((panels, PANEL_WIDTH))
    padded = np.pad(np.asarray(values, "float64"), (0, panels * width - len(values)))
    lanes[:, :width] = padded.reshape(panels, width)
    return lanes[:, PANEL_CHANNELS]


def fold_bn_relu(
    bn_scale: np.ndarray,
    bn_shift: np.ndarray,
    scale: np.ndarray,
    offset: np.ndarray,
    relu: bool = True,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Express batch normalization and ReLU of bytes as ``max(0, (q ^ xor_mask) - zero_point)``.

    The normalization is bn_scale * x + bn_shift of bytes that represent x = scale * q + offset.
    Without a ReLU behind it, the zero points are 0. Returns the masks and the zero points, uint8,
    and the scales and offsets of the resulting bytes. A mask is 255, which reverses the bytes,
    where ``bn_scale`` is negative.

    Examples
    --------
    >>> bn_scale, bn_shift = np.array([2.0, -2.0, 1.0]), np.array([-8.0, 8.0, 5.0])
    >>> for found in fold_bn_relu(bn_scale, bn_shift, scale=np.ones(3), offset=np.zeros(3)):
    ...     print(found)
    [  0 255   0]
    [  4 251   0]
    [2. 2. 1.]
    [0. 0. 5.]
    """
    xor_mask = np.where(bn_scale < 0, 255, 0)
    new_scale = np.abs(bn_scale) * scale
    # The normalized value of the byte that is 0 after the mask.
    minimum = bn_scale * (offset + xor_mask * scale) + bn_shift
    if not relu:
        return xor_mask.astype("uint8"), np.zeros(len(xor_mask), "uint8"), new_scale, minimum
    constant = new_scale == 0
    zero_point = -minimum / np.where(constant, 1, new_scale)
    zero_point = np.where(constant, 255, np.round(zero_point).clip(0, 255))
    new_offset = np.where(constant, np.maximum(bn_shift, 0), np.maximum(minimum, 0))
    return xor_mask.astype("uint8"), zero_point.astype("uint8"), new_scale, new_offset
