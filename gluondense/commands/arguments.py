# SPDX-License-Identifier: Apache-2.0
"""Shared parts of the command lines."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, Callable, NoReturn, Optional

# Keys of gluondense.data.DATASETS, which needs NumPy; a test compares them.
DATASETS = (
    "cifar10",
    "cifar100",
    "digits",
    "fashion_mnist",
    "folder",
    "imagenet",
    "svhn",
    "synthetic",
)


class Parser(argparse.ArgumentParser):
    """A parser that reports an error in one line, ``error: …``, with exit code 2."""

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


def call(run: Callable[[argparse.Namespace], Optional[int]], args: argparse.Namespace) -> int:
    """Call a command's function and return the exit code.

    A `ValueError` or `OSError` is the user's: it is printed in one line, the exit code is 2. So is
    an error of the import of MXNet; its exit code is 1.
    """
    try:
        return run(args) or 0
    except ImportError as error:
        if error.name != "mxnet":
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


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
