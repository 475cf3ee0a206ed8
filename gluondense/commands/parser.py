# SPDX-License-Identifier: Apache-2.0
"""The argument parser of the commands: errors in one line, which name flags, not parameters."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NoReturn, Optional

from .output import write_output

# A message of the package names an argument as `name` or as name (=value).
ARGUMENT = re.compile(r"`(\w+)`|(?<![\w.])(\w+)(?= \(=)")


class Arguments(argparse.Namespace):
    """Parsed arguments; ``parser``, which is not among ``vars``, has parsed them."""

    __slots__ = ("parser",)


class Parser(argparse.ArgumentParser):
    """A parser that reports an error in one line, ``error: …``, with exit code 2.

    ``names`` has the flags of Python arguments with another name, such as ``{"out_dir": "--out"}``.
    """

    def __init__(self, names: Mapping[str, str] = MappingProxyType({}), **options: Any) -> None:
        super().__init__(**options)
        self._names = names

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as the base class does, into :class:`Arguments`."""
        if namespace is None:
            namespace = Arguments()
            namespace.parser = self
        return super().parse_known_args(args, namespace)

    def set_names(self, **names: str) -> None:
        """Set more flags of Python arguments with another name."""
        self._names = {**self._names, **names}

    @property
    def flags(self) -> dict[str, str]:
        """The flag of each argument by its name in Python; a positional one's metavar."""
        found: dict[str, str] = {}
        for action in self._actions:
            long = [flag for flag in action.option_strings if flag.startswith("--")]
            if long:
                found.setdefault(action.dest, long[0])  # an alias follows its flag
            elif isinstance(action.metavar, str):
                found[action.dest] = action.metavar
        return {**found, **self._names}

    def with_flags(self, message: str) -> str:
        """Replace the arguments that a message of the package names by this command's flags.

        Examples
        --------
        >>> parser = Parser(names={"out_dir": "--out"})
        >>> _ = parser.add_argument("--batch-size")
        >>> parser.with_flags("batch_size (=0) must be positive, give another `out_dir`")
        '--batch-size (=0) must be positive, give another --out'
        """
        flags = self.flags
        return ARGUMENT.sub(lambda found: flags.get(found[1] or found[2], found[0]), message)

    def exit(self, status: int = 0, message: Optional[str] = None) -> NoReturn:
        """End the process, after its output has been written."""
        if message:
            sys.stderr.write(message)
        sys.exit(write_output() or status)

    def error(self, message: str) -> NoReturn:
        """Print the message and refer to ``--help``."""
        self.exit(2, f"error: {message} (see --help)\n")

    def add_fields(self) -> None:
        """Add ``--set FIELD=JSON`` for fields of a model's spec; ``dict(args.set)`` has them."""
        self.add_argument(
            "--set",
            type=field,
            action="append",
            default=[],
            metavar="FIELD=JSON",
            help="a field of the model's spec, such as growth_rate=24; may be repeated",
        )


def field(text: str) -> tuple[str, Any]:
    """Parse ``name=value``; a value that is not JSON is a string.

    Examples
    --------
    >>> field("block_config=[6, 12]"), field("fusion=both")
    (('block_config', [6, 12]), ('fusion', 'both'))
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not FIELD=JSON, such as growth_rate=24")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value
