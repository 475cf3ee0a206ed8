# SPDX-License-Identifier: Apache-2.0
"""Flags that several commands share."""

from __future__ import annotations

import argparse
from typing import Any

from .parser import Parser

# Keys of gluondense.data.DATASETS, which needs NumPy; a test compares them.
DATASETS = (
    "cifar10",
    "cifar100",
    "detection",
    "digits",
    "fashion_mnist",
    "folder",
    "imagenet",
    "svhn",
    "synthetic",
)


def add_weights_file(parser: Parser) -> None:
    """Add the flags of a network whose weights are in a file, see :func:`.zoo.open_network`."""
    model = "the network of a weights file, from `gluondense models`"
    parser.add_argument("--model", dest="network", metavar="NAME", help=model)
    parser.add_fields()
    parser.set_names(fields="--set")
    nan = "accept NaN and infinite weights"
    parser.add_argument("--allow-nan", action="store_true", help=nan)


def add_preprocessing(parser: argparse.ArgumentParser, *skip: str) -> None:
    """Add flags that change fields of the preprocessing, see :func:`preprocessing_fields`."""
    add = parser.add_argument_group(
        "preprocessing", "default: that of the run, the export or the published weights"
    ).add_argument
    add("--mean", type=numbers, metavar="A,B,C", help="mean of each channel, for pixels in [0, 1]")
    add("--std", type=numbers, metavar="A,B,C", help="standard deviation of each channel")
    if "input_size" not in skip:
        add("--input-size", type=int, metavar="N", help="height and width of the network's input")
    add(
        "--resize",
        choices=("shorter", "exact", "letterbox"),
        help="shorter: resize the shorter side and crop the center; exact: resize both sides; "
        "letterbox: resize to the largest size that fits and pad with gray",
    )
    add("--crop-ratio", type=float, metavar="X", help="share of the shorter side that is cropped")
    add("--interpolation", choices=("bilinear", "bicubic"), help="filter of the resizing")
    add(
        "--invert",
        action=argparse.BooleanOptionalAction,
        help="invert images that are dark on light, for a network that was trained on light on "
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
