# SPDX-License-Identifier: Apache-2.0
"""Schemas of JSON objects: the valid values of each field.

Lists are JSON's, not tuples.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Callable, NamedTuple

from .errors import check, check_known, is_count, is_number

Check = Callable[[Any], bool]


class Field(NamedTuple):
    """The rule of a field in words and as a function, and whether the field may be missing."""

    rule: str
    holds: Check
    optional: bool = False


Schema = Mapping[str, Field]


def check_fields(content: Mapping[str, Any], schema: Schema) -> None:
    """Raise a ValueError that names the first field that is unknown, missing or invalid.

    Examples
    --------
    >>> check_fields({"epoch": -1}, {"epoch": Field("a number >= 0", lambda value: value >= 0)})
    Traceback (most recent call last):
    ValueError: epoch (=-1) must be a number >= 0.
    """
    for name in content:
        check_known("field", name, schema, hint="written by another version?")
    for name, field in schema.items():
        if name in content:
            check(name, content[name], field.rule, field.holds(content[name]))
        elif not field.optional:
            raise ValueError(f"it lacks the field {name!r}.")


def is_text(value: Any) -> bool:
    """Return whether the value is a string, not empty."""
    return isinstance(value, str) and value != ""


def is_share(value: Any) -> bool:
    """Return whether the value is a number in (0, 1)."""
    return is_number(value) and 0 < value < 1


def is_digest(value: Any) -> bool:
    """Return whether the value is a SHA-256 in hexadecimal digits."""
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def is_shape(value: Any) -> bool:
    """Return whether the value is a list of one or more positive integers."""
    return isinstance(value, list) and len(value) > 0 and all(map(is_count, value))


def list_of(holds: Check) -> Check:
    """Return the check of a list whose items are valid."""
    return lambda value: isinstance(value, list) and all(map(holds, value))


def dict_of(holds: Check) -> Check:
    """Return the check of an object whose values are valid."""
    return lambda value: isinstance(value, dict) and all(map(holds, value.values()))


def or_none(holds: Check) -> Check:
    """Return the check of null or a valid value."""
    return lambda value: value is None or holds(value)


NAMES = Field("names or null", or_none(list_of(lambda value: isinstance(value, str))))
OBJECT = Field("an object or null", or_none(dict_of(lambda value: True)))
VERSIONS = Field("names and versions", dict_of(lambda value: isinstance(value, str)))
THRESHOLDS = Field("numbers in (0, 1) or null", or_none(list_of(is_share)), optional=True)
