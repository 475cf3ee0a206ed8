"""What the command lines of the scripts share."""

from __future__ import annotations

import argparse
import json
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line, ``error: …``, and exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Print the message and where to find more."""
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
    """Read ``name=value``, where a word needs no quotes.

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
