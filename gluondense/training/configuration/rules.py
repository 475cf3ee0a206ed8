# SPDX-License-Identifier: Apache-2.0
"""The rules of single fields; :mod:`.settings` has the general ones."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Union

from ...errors import check, is_count, is_number
from .settings import Rule, absolute, comma_separated, items

CLASS_WEIGHTS_NAMES = ("none", "balanced")


def _check_recompute(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        from ...graph.recompute import find_policy

        find_policy(value)


def _check_model_args(name: str, value: Any) -> None:
    check(name, value, "a dictionary", isinstance(value, Mapping))
    fixed = sorted({"classes", "in_channels"} & set(value))
    if fixed:
        raise ValueError(f"`{fixed[0]}` follows from the data set; leave it out of {name}.")


def _check_class_weights(name: str, value: Any) -> None:
    numbers = isinstance(value, tuple) and all(is_number(item) and item >= 0 for item in value)
    rule = "none, balanced or a number >= 0 for each class, not all 0"
    check(name, value, rule, value in CLASS_WEIGHTS_NAMES or (numbers and any(value)))


def _parse_class_weights(text: str) -> Union[str, tuple[float, ...]]:
    return text if text in CLASS_WEIGHTS_NAMES else comma_separated(float)(text)


def _check_pretrained(name: str, value: Any) -> None:
    check(name, value, "a tag, a file or a folder", isinstance(value, str) and bool(value))


def _parse_pretrained(text: str) -> str:
    """Return a path as an absolute one, and a tag as it is."""
    return absolute(text) if os.sep in text or os.path.exists(text) else text


def _are_names(values: tuple) -> bool:
    return all(isinstance(name, str) and name for name in values)


def _are_indices(values: tuple) -> bool:
    return all(is_count(value, 0) for value in values) and len(set(values)) == len(values)


RECOMPUTE = Rule(_check_recompute, {"metavar": "POLICY"})
MODEL_ARGS = Rule(_check_model_args, {})
CLASS_WEIGHTS = Rule(
    _check_class_weights, {"metavar": "balanced|X,Y,…", "type": _parse_class_weights}
)
PRETRAINED = Rule(_check_pretrained, {"metavar": "TAG|FILE|RUN", "type": _parse_pretrained})
NAMES = items("a tuple of names", _are_names, "A,B")
INDICES = items("different integers >= 0", _are_indices, "0,1", int)
NUMBERS = items("a tuple of numbers", lambda values: all(map(is_number, values)), "0.5,0.75", float)
