# SPDX-License-Identifier: Apache-2.0
"""Declared fields of a configuration: default, help, check and command-line flags in one place.

This module imports neither MXNet nor NumPy, so that a command line is built in milliseconds.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from functools import partial
from typing import Any, Callable

from ...errors import check, check_choice, check_count, check_flag, check_range

REQUIRED = object()


@dataclass(frozen=True)
class Rule:
    """The values that a field accepts, and how a command line spells them."""

    check: Callable[[str, Any], None]  # ValueError for an invalid value, given name and value
    arguments: Mapping[str, Any]  # of `add_argument`


@dataclass(frozen=True)
class Setting:
    """Metadata of one configuration field.

    Parameters
    ----------
    help
        One line for ``--help``; it is also the field's documentation.
    rule
        Valid values.
    name
        Unique name among all sections; the field's own name by default.
    flags
        Flags besides ``--name``.
    bare
        Value of a flag without a value; None makes the flag's value mandatory.
    """

    help: str
    rule: Rule
    name: str = ""
    flags: tuple[str, ...] = ()
    bare: Any = None


def setting(default: Any, help: str, rule: Rule, **options: Any) -> Any:
    """Declare a field of a :class:`Section`; the options are those of :class:`Setting`."""
    metadata = {"setting": Setting(help, rule, **options)}
    if default is REQUIRED:
        return field(metadata=metadata)
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Section:
    """Base of sections: checks each field by its rule; None is valid where it is the default."""

    def __post_init__(self) -> None:
        for spec in fields(self):
            value = tuples(getattr(self, spec.name))
            object.__setattr__(self, spec.name, value)
            if value is not None or spec.default is not None:
                spec.metadata["setting"].rule.check(unique_name(spec), value)


def unique_name(spec: Field) -> str:
    """Return the name of a field that is unique among all sections."""
    return spec.metadata["setting"].name or spec.name


def tuples(value: Any) -> Any:
    """Convert lists, which JSON makes of tuples, back to tuples.

    Examples
    --------
    >>> tuples([1, [2, 3]]), tuples({"block_config": [6, 12]})
    ((1, (2, 3)), {'block_config': (6, 12)})
    """
    if isinstance(value, Mapping):
        return {key: tuples(item) for key, item in value.items()}
    return tuple(map(tuples, value)) if isinstance(value, (list, tuple)) else value


def count(least: int = 1) -> Rule:
    """Return the rule of an integer of at least ``least``."""
    return Rule(partial(check_count, least=least), {"type": int, "metavar": "N"})


def number(low: float = 0, high: float = float("inf"), closed: str = "left") -> Rule:
    """Return the rule of a real number, see :func:`gluondense.errors.check_range`."""
    in_range = partial(check_range, low=low, high=high, closed=closed)
    return Rule(in_range, {"type": float, "metavar": "X"})


def choice(*names: str) -> Rule:
    """Return the rule of a fixed set of names."""
    return Rule(partial(check_choice, choices=names), {"choices": names})


def switch() -> Rule:
    """Return the rule of a bool."""
    return Rule(check_flag, {"action": argparse.BooleanOptionalAction})


def text(metavar: str = "NAME") -> Rule:
    """Return the rule of a string."""
    return Rule(_check_text, {"metavar": metavar})


def path(metavar: str = "FOLDER") -> Rule:
    """Return the rule of a path, which a command line makes absolute: runs resume from anywhere."""
    return Rule(_check_text, {"metavar": metavar, "type": absolute})


def items(
    rule: str, holds: Callable[[tuple], bool], metavar: str, convert: Callable[[str], Any] = str
) -> Rule:
    """Return the rule of a tuple; ``rule`` says in words what ``holds`` checks."""

    def check_tuple(name: str, value: Any) -> None:
        check(name, value, rule, isinstance(value, tuple) and holds(value))

    return Rule(check_tuple, {"metavar": metavar, "type": comma_separated(convert)})


def absolute(text: str) -> str:
    """Return the absolute path; ``~`` is the home folder."""
    return os.path.abspath(os.path.expanduser(text))


def comma_separated(convert: Callable[[str], Any] = str) -> Callable[[str], tuple[Any, ...]]:
    """Return a parser of items between commas; ``none`` is no item.

    Examples
    --------
    >>> comma_separated(float)("0.5,0.75"), comma_separated()("none")
    ((0.5, 0.75), ())
    """

    def items(text: str) -> tuple[Any, ...]:
        return tuple(convert(item) for item in text.split(",") if item not in ("", "none"))

    return items


def _check_text(name: str, value: Any) -> None:
    check(name, value, "a string", isinstance(value, str))
