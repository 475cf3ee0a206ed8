# SPDX-License-Identifier: Apache-2.0
"""Comparison of the class names of a model and of a data set."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Optional

import numpy as np

from .datasets.imagenet import readable

SHOWN = 3  # names that a message lists


def describe_difference(model: Sequence[str], data: Sequence[str]) -> str:
    """Return the differences of two lists of class names; "" if they are equal.

    Examples
    --------
    >>> describe_difference(("cat", "dog"), ("cat", "hound"))
    "the data lacks 'dog'; the model lacks 'hound'"
    >>> describe_difference(("cat", "dog"), ("dog", "cat"))
    "the order differs: class 0 is 'cat' in the model, 'dog' in the data"
    """
    known, found = set(model), set(data)
    missing = [name for name in model if name not in found]
    extra = [name for name in data if name not in known]
    lacks = (("data", missing), ("model", extra))
    parts = [f"the {who} lacks {_some(names)}" for who, names in lacks if names]
    if not parts and len(model) != len(data):
        parts.append(f"the model has {len(model)} names, the data {len(data)}")
    elif not parts:
        for index, (mine, other) in enumerate(zip(model, data)):
            if mine != other:
                words = f"class {index} is {mine!r} in the model, {other!r} in the data"
                return f"the order differs: {words}"
    return "; ".join(parts)


def match_classes(
    model: Sequence[str],
    data: Sequence[str],
    class_map: Optional[Mapping[str, str]] = None,
    by_position: bool = True,
) -> np.ndarray:
    """Return the model's label of each label of the data, int64 (classes of the data,).

    Parameters
    ----------
    model, data
        Class names in the order of the labels.
    class_map
        The model's name of some classes of the data, by the data's name. Several classes of the
        data may become the same class.
    by_position
        Whether names that only number the classes, as those of RecordIO files without names, match
        by position.

    Raises
    ------
    ValueError
        If a class is missing, extra or ambiguous; the message lists the names that differ.

    Examples
    --------
    >>> match_classes(("cat", "dog"), ("dog", "cat")).tolist()
    [1, 0]
    >>> match_classes(("cat", "dog"), ("cat", "hound"), {"hound": "dog"}).tolist()
    [0, 1]
    """
    class_map = class_map or {}
    unknown = [name for name in class_map if name not in data]
    if unknown:
        raise ValueError(f"the class map renames {_some(unknown)}, which the data does not have.")
    by_position = by_position and not class_map and len(model) == len(data)
    if by_position and (_unnamed(model) or _unnamed(data)):
        if tuple(model) != tuple(data):
            warn_of_positions("the data" if _unnamed(data) else "the model")
        return np.arange(len(data))
    labels = {name: label for label, name in enumerate(model)}
    names = [class_map.get(name, name) for name in data]
    # ImageNet's wnids among other names are still wnids.
    names = [name if name in labels else readable((name,))[0] for name in names]
    if tuple(names) == tuple(model):
        return np.arange(len(data))
    if len(labels) != len(model):
        raise ValueError("the model has several classes of the same name, in another order.")
    if set(names) != set(labels):
        raise ValueError(
            f"the model knows {len(model)} classes, the data has {len(data)}: "
            f"{describe_difference(model, names)}."
        )
    if len(set(names)) < len(names) and not class_map:
        raise ValueError("the data has several classes of the same name.")
    return np.array([labels[name] for name in names], np.int64)


def warn_of_positions(nameless: str) -> None:
    """Warn that classes are matched by position, because one side does not name them."""
    message = f"warning: classes are matched by position, as {nameless} has no class names"
    print(message, file=sys.stderr)


def _unnamed(names: Sequence[str]) -> bool:
    return tuple(names) == tuple(map(str, range(len(names))))


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(repr, names[:SHOWN])) + more
