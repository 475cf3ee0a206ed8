# SPDX-License-Identifier: Apache-2.0
"""Argument checks whose messages give the argument's name, its value and the rule."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from typing import Any


def in_one_line(text: object, limit: int = 200) -> str:
    r"""Return text from a file or another library's error, fit for a message.

    Line breaks become spaces, control characters are escaped, and the end may be cut.

    Examples
    --------
    >>> in_one_line("first\n  second\x1b[31m"), in_one_line("x" * 300, limit=5)
    ('first second\\x1b[31m', 'xx...')
    """
    words = " ".join(str(text).split())
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in words)
    return line if len(line) <= limit else f"{line[: limit - 3]}..."


def closest(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known words that resemble the word, else ``""``.

    Examples
    --------
    >>> closest("densnet121", ["densenet121", "dpn92"])
    "; did you mean 'densenet121'?"
    """
    import difflib  # for errors only; it takes 2 ms

    matches = difflib.get_close_matches(word, list(known), n=3)
    return f"; did you mean {' or '.join(map(repr, matches))}?" if matches else ""


def check_known(kind: str, name: Any, known: Iterable[str], hint: str = "") -> None:
    """Raise a ValueError that suggests similar names, unless the name is known.

    ``kind`` is what the name stands for, such as ``"model"``. ``hint`` says where to find the valid
    names; by default the message lists them.

    Examples
    --------
    >>> check_known("target", "portble", ["portable", "onnx"])
    Traceback (most recent call last):
    ValueError: unknown target 'portble'; did you mean 'portable'? (known: portable, onnx).
    """
    known = list(known)
    if name not in known:
        hint = hint or f"known: {', '.join(known)}"
        shown = in_one_line(repr(name))
        raise ValueError(f"unknown {kind} {shown}{closest(str(name), known)} ({hint}).")


def check(name: str, value: Any, rule: str, holds: bool) -> None:
    """Raise a ValueError that gives the argument's name, value and rule, unless the rule holds.

    The end of a long value is cut.
    """
    if not holds:
        raise ValueError(f"{name} (={in_one_line(repr(value))}) must be {rule}.")


def check_choice(name: str, value: Any, choices: Iterable[Any]) -> None:
    """Raise a ValueError that lists the choices, unless the value is one of them."""
    choices = list(choices)
    check(name, value, "one of " + ", ".join(map(repr, choices)), value in choices)


def check_flag(name: str, value: Any) -> None:
    """Raise a ValueError unless the value is a bool."""
    check(name, value, "True or False", isinstance(value, bool))


def check_count(name: str, value: Any, least: int = 1) -> None:
    """Raise a ValueError unless the value is an integer of at least ``least``."""
    rule = "a positive integer" if least == 1 else f"an integer >= {least}"
    check(name, value, rule, is_count(value, least))


def check_counts(name: str, value: Any) -> None:
    """Raise a ValueError unless the value is a tuple of one or more positive integers."""
    holds = isinstance(value, tuple) and len(value) > 0 and all(map(is_count, value))
    check(name, value, "a non-empty tuple of positive integers", holds)


def check_range(
    name: str, value: Any, low: float, high: float = math.inf, closed: str = "both"
) -> None:
    """Raise a ValueError unless the value is a real number between two bounds, which NaN never is.

    An infinite ``high`` admits every finite number from ``low`` on. ``closed`` says which bounds
    are themselves valid: ``"both"``, ``"left"``, ``"right"`` or ``"neither"``.

    Examples
    --------
    >>> check_range("momentum", 1.0, 0, 1, closed="left")
    Traceback (most recent call last):
    ValueError: momentum (=1.0) must be in [0, 1).
    >>> check_range("lr", 0.0, 0, closed="neither")
    Traceback (most recent call last):
    ValueError: lr (=0.0) must be a finite number > 0.
    """
    left, right = closed in ("both", "left"), closed in ("both", "right")
    if math.isinf(high):
        right, rule = False, f"a finite number {'>=' if left else '>'} {low:g}"
    else:
        rule = f"in {'[' if left else '('}{low:g}, {high:g}{']' if right else ')'}"
    holds = is_number(value) and (low <= value if left else low < value)
    holds = holds and (value <= high if right else value < high)
    check(name, value, rule, holds)


def is_count(value: Any, least: int = 1) -> bool:
    """Return whether the value is an integer, not a bool, of at least ``least``."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_number(value: Any) -> bool:
    """Return whether the value is a real number that a float can hold, not a bool."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return isinstance(value, float) or abs(value) <= sys.float_info.max
