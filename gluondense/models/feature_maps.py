# SPDX-License-Identifier: Apache-2.0
"""The feature maps that a network of ``features_only=True`` returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Union

from ..errors import check, is_count

HEAD = ("output.weight", "output.bias")  # parameters of the classifier

OutIndices = Union[int, Sequence[int], None]


class FeatureInfo(NamedTuple):
    """A feature map: name of its stage, channels, and stride relative to the image."""

    name: str
    channels: int
    stride: int


def select_indices(out_indices: OutIndices, maps: Sequence[FeatureInfo]) -> list[int]:
    """Return the indices of the selected feature maps, in the order of the network.

    Parameters
    ----------
    out_indices
        Different indices, negative ones from the end; n selects the last n maps, None all but the
        first one, which is the stem's.
    maps
        All feature maps of the network.

    Raises
    ------
    ValueError
        If an index is out of range or given twice, or nothing is selected.

    Examples
    --------
    >>> maps = [FeatureInfo("stem", 64, 2), FeatureInfo("stage1", 256, 4)]
    >>> select_indices(None, maps), select_indices((-1, 0), maps), select_indices(1, maps)
    ([1], [0, 1], [1])
    """
    count = len(maps)
    if out_indices is None:
        return list(range(1, count))
    if isinstance(out_indices, int) and is_count(out_indices):
        out_indices = range(-out_indices, 0)
    given = list(out_indices) if isinstance(out_indices, (list, tuple, range)) else []
    holds = bool(given) and all(isinstance(i, int) and -count <= i < count for i in given)
    selected = sorted({i % count for i in given}) if holds else []
    names = ", ".join(f"{index} {info.name}" for index, info in enumerate(maps))
    rule = f"a number of maps or a tuple of different indices (known: {names})"
    check("out_indices", out_indices, rule, holds and len(selected) == len(given))
    return selected
