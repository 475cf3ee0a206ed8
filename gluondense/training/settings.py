"""Declared fields of a configuration: default, help, check and command-line flags in one place.

This module imports neither MXNet nor NumPy, so that a command line is built in milliseconds.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, Callable, Optional

from ..errors import check, check_choice, check_count, check_flag, check_range, is_count, is_number

REQUIRED = object()


@dataclass(frozen=True)
class Rule:
    """The values that a field accepts, and how a command line spells them.

    Parameters
    ----------
    check
        Raises a ValueError for an invalid value, given the field's name and the value.
    arguments
        Keyword arguments of ``add_argument``.
    """

    check: Callable[[str, Any], None]
    arguments: Mapping[str, Any]


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
    """Base of configuration sections: checks each field by its rule.

    Raises
    ------
    ValueError
        If a field violates its rule. None is valid where it is the default.
    """

    def __post_init__(self) -> None:
        for spec in fields(self):
            value = tuples(getattr(self, spec.name))
            object.__setattr__(self, spec.name, value)
            if value is not None or spec.default is not None:
                about = spec.metadata["setting"]
                about.rule.check(unique_name(spec), value)


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
    return Rule(lambda name, value: check_count(name, value, least), {"type": int, "metavar": "N"})


def number(low: float = 0, high: float = float("inf"), closed: str = "left") -> Rule:
    """Return the rule of a real number, see :func:`gluondense.errors.check_range`."""
    return Rule(
        lambda name, value: check_range(name, value, low, high, closed),
        {"type": float, "metavar": "X"},
    )


def choice(*names: str) -> Rule:
    """Return the rule of a fixed set of names."""
    return Rule(lambda name, value: check_choice(name, value, names), {"choices": names})


def switch() -> Rule:
    """Return the rule of a bool."""
    return Rule(check_flag, {"action": argparse.BooleanOptionalAction})


def text(metavar: str = "NAME") -> Rule:
    """Return the rule of a string."""
    return Rule(_check_text, {"metavar": metavar})


def path(metavar: str = "FOLDER") -> Rule:
    """Return the rule of a path, which a command line makes absolute: runs resume from anywhere."""
    return Rule(_check_text, {"metavar": metavar, "type": absolute})


def names(metavar: str = "A,B") -> Rule:
    """Return the rule of a tuple of names; ``none`` is the empty one."""
    return Rule(
        lambda name, value: _check_items(name, value, "names", lambda item: isinstance(item, str)),
        {"metavar": metavar, "type": comma_separated_names},
    )


def indices(metavar: str = "0,1") -> Rule:
    """Return the rule of a tuple of different integers from 0."""

    def check_indices(name: str, value: Any) -> None:
        holds = isinstance(value, tuple) and all(is_count(item, 0) for item in value)
        check(name, value, "different integers >= 0", holds and len(set(value)) == len(value))

    return Rule(check_indices, {"metavar": metavar, "type": comma_separated_integers})


def fractions(metavar: str = "0.5,0.75") -> Rule:
    """Return the rule of a tuple of numbers."""
    return Rule(
        lambda name, value: _check_items(name, value, "numbers", is_number),
        {"metavar": metavar, "type": comma_separated_numbers},
    )


def absolute(text: str) -> str:
    """Return the absolute path; ``~`` is the home folder."""
    return os.path.abspath(os.path.expanduser(text))


def comma_separated_names(text: str) -> tuple[str, ...]:
    """Split at commas.

    Examples
    --------
    >>> comma_separated_names("flip,crop"), comma_separated_names("none")
    (('flip', 'crop'), ())
    """
    return tuple(name for name in text.split(",") if name not in ("", "none"))


def comma_separated_integers(text: str) -> tuple[int, ...]:
    """Split at commas and convert to integers."""
    return tuple(int(number) for number in text.split(","))


def comma_separated_numbers(text: str) -> tuple[float, ...]:
    """Split at commas and convert to numbers."""
    return tuple(float(number) for number in text.split(","))


def add_flags(
    parser: argparse.ArgumentParser,
    sections: Mapping[str, type[Section]],
    defaults: Mapping[str, Any],
    without: Collection[str] = (),
    helps: Optional[Mapping[str, str]] = None,
) -> None:
    """Add the flags of all fields, a group for each section; flags not given parse to None.

    Parameters
    ----------
    parser
        The parser to extend.
    sections
        Titles and section classes.
    defaults
        Values by unique name, for the help text.
    without
        Unique names of fields that get no flag.
    helps
        Other help texts, by unique name.
    """
    for title, section in sections.items():
        group = parser.add_argument_group(title)
        for name, about in _settings(section):
            if name not in without:
                text = (helps or {}).get(name, about.help)
                group.add_argument(
                    "--" + name.replace("_", "-"),
                    *about.flags,
                    dest=name,
                    default=None,
                    help=f"{text}{_shown(defaults[name])}".replace("%", "%%"),
                    **_arguments(name, about),
                )


def _settings(section: type[Section]) -> Iterator[tuple[str, Setting]]:
    return ((unique_name(spec), spec.metadata["setting"]) for spec in fields(section))


def _arguments(name: str, about: Setting) -> dict[str, Any]:
    arguments = dict(about.rule.arguments)
    if name.startswith("no_"):  # there is no --no-no-…
        return {"action": "store_const", "const": True}
    if about.bare is not None:
        arguments.update(nargs="?", const=about.bare)
    return arguments


def _shown(default: Any) -> str:
    """Return the default as a part of the help text."""
    if default is None or isinstance(default, dict):
        return ""
    items = default if isinstance(default, tuple) else (default,)
    words = [f"{item:.3g}" if isinstance(item, float) else str(item) for item in items]
    return f" (default: {','.join(words) or 'none'})"


def _check_text(name: str, value: Any) -> None:
    check(name, value, "a string", isinstance(value, str))


def _check_items(name: str, value: Any, kind: str, holds: Callable[[Any], bool]) -> None:
    check(name, value, f"a tuple of {kind}", isinstance(value, tuple) and all(map(holds, value)))
