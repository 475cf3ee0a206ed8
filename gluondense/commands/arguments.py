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


def add_preprocessing(parser: argparse.ArgumentParser, *skip: str) -> None:
    """Add flags that change fields of the preprocessing, see :func:`preprocessing_fields`."""
    add = parser.add_argument_group(
        "preprocessing", "default: what the run, the export or the published weights say"
    ).add_argument
    add("--mean", type=numbers, metavar="A,B,C", help="of each channel, for pixels in [0, 1]")
    add("--std", type=numbers, metavar="A,B,C", help="standard deviation of each channel")
    if "input_size" not in skip:
        add("--input-size", type=int, metavar="N", help="height and width of the network's input")
    add(
        "--resize",
        choices=("shorter", "exact"),
        help="the shorter side, then crop the center; or both sides, without a crop",
    )
    add("--crop-ratio", type=float, metavar="X", help="share of the shorter side that is cropped")
    add("--interpolation", choices=("bilinear", "bicubic"))
    add(
        "--invert",
        action=argparse.BooleanOptionalAction,
        help="invert image files: they are dark on light, but the network was trained on light on "
        "dark (Fashion-MNIST, digits)",
    )


def preprocessing_fields(args: argparse.Namespace) -> dict[str, Any]:
    """Return the values of the flags of :func:`add_preprocessing`; None where none was given."""
    names = ("mean", "std", "input_size", "resize", "crop_ratio", "interpolation", "invert")
    fields = {name: getattr(args, name, None) for name in names}
    size = fields["input_size"]
    if size is not None and size < 1:
        raise ValueError(f"--input-size {size} must be at least 1.")
    return fields


def numbers(text: str) -> tuple[float, ...]:
    """Parse numbers between commas; argparse shows the name of this function in its messages."""
    return tuple(float(number) for number in text.split(","))


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
