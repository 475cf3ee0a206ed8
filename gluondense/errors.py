"""Argument checks whose messages name the argument, its value and the rule."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


def closest(word: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` with the nearest of the known words, or nothing.

    Examples
    --------
    >>> closest("densnet121", ["densenet121", "dpn92"])
    "; did you mean 'densenet121'?"
    """
    matches = difflib.get_close_matches(word, list(known), n=3)
    return f"; did you mean {' or '.join(map(repr, matches))}?" if matches else ""


def check(name: str, value: Any, rule: str, holds: bool) -> None:
    """Raise a ValueError that names the field, its value and the rule, unless it holds."""
    if not holds:
        raise ValueError(f"{name} (={value!r}) must be {rule}.")


def check_choice(name: str, value: Any, choices: Iterable[Any]) -> None:
    """Raise a ValueError that lists the choices, unless the value is one of them."""
    choices = list(choices)
    check(name, value, "one of " + ", ".join(map(repr, choices)), value in choices)


def is_count(value: Any, least: int = 1) -> bool:
    """Whether the value is an integer of at least ``least``."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def check_counts(name: str, value: Any) -> None:
    """Raise a ValueError unless the value is a tuple of one or more positive integers."""
    holds = isinstance(value, tuple) and len(value) > 0 and all(map(is_count, value))
    check(name, value, "a non-empty tuple of positive integers", holds)


def is_number(value: Any) -> bool:
    """Whether the value is a real number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)
