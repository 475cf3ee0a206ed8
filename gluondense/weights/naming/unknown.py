# SPDX-License-Identifier: Apache-2.0
"""Description of a file whose names no scheme knows, beside the network that is nearest to it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Optional

Shapes = Mapping[str, tuple[int, ...]]

# The least share of equal shapes at which two networks resemble each other.
_LEAST = 0.5
_SHOWN = 4
_KINDS = {"bias": "bias", "beta": "bias", "mean": "mean", "var": "var"}


def nearest_network(
    file: Shapes, networks: Iterable[tuple[str, Shapes]]
) -> Optional[tuple[str, Shapes]]:
    """Return name and shapes of the network with most shapes in common with a file.

    None is returned if no network has half of them.
    """
    stored = Counter(file.values())
    best, most = None, _LEAST
    for name, shapes in networks:
        common = sum((stored & Counter(shapes.values())).values())
        share = common / max(len(file), len(shapes), 1)
        if share > most or (best is None and share == most):
            best, most = (name, shapes), share
    return best


def beside(file: Shapes, shapes: Shapes) -> str:
    """Write some names of a file beside names of a network that have the same shapes.

    Examples
    --------
    >>> beside({"conv1.weight": (8, 3, 3, 3)}, {"features.stem.conv.weight": (8, 3, 3, 3)})
    'conv1.weight (8, 3, 3, 3) where ours is features.stem.conv.weight'
    """
    if list(file.values()) == list(shapes.values()):
        pairs = list(zip(file, shapes))
    else:
        free = sorted(file, key=_natural_order)
        pairs = []
        for ours, shape in shapes.items():
            alike = (key for key in free if file[key] == shape and _kind(key) == _kind(ours))
            key = next(alike, None)
            if key is not None:
                free.remove(key)
                pairs.append((key, ours))
    if len(pairs) > _SHOWN:
        # The stem, a layer of the first and of a middle stage, and the output.
        pairs = [pairs[index] for index in (0, 1, len(pairs) // 2, len(pairs) - 1)]
    return ", ".join(f"{key} {file[key]} where ours is {ours}" for key, ours in pairs)


def _kind(name: str) -> str:
    """Return what a parameter is, in PyTorch's word."""
    for word, kind in _KINDS.items():
        if name.endswith(word):
            return kind
    return "weight"


def _natural_order(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts layer10 after layer9."""
    parts = re.findall(r"(\d+)|(\D+)", name)
    return [(int(number or -1), text) for number, text in parts]
