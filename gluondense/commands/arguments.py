# SPDX-License-Identifier: Apache-2.0
"""Shared parts of the command lines."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import re
import select
import sys
from collections.abc import Mapping
from types import MappingProxyType
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


# A message of the package names an argument as `name` or as name (=value).
ARGUMENT = re.compile(r"`(\w+)`|(?<![\w.])(\w+)(?= \(=)")
BROKEN_PIPE = 141  # of a shell, for a command that SIGPIPE ended


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

    A `ValueError`, an `OSError` or an error of MXNet, such as a lack of memory, is printed in one
    line in terms of the command's flags; the exit code is 2. So is an error of the import of MXNet;
    its exit code is 1. If nobody reads the output any more, the command ends silently.
    """
    _accept_any_text()
    try:
        code = run(args) or 0
    except ImportError as error:
        if error.name != "mxnet":
            raise
        return _fail(error, args, 1)
    except (ValueError, OSError, MemoryError) as error:
        return _fail(error, args)
    except RuntimeError as error:
        if type(error).__name__ != "MXNetError":
            raise
        return _fail(error, args)
    return write_output() or code


def _fail(error: BaseException, args: argparse.Namespace, code: int = 2) -> int:
    if isinstance(error, BrokenPipeError) and _nobody_reads():
        write_output()
        return BROKEN_PIPE
    message = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.errno == errno.ENOSPC and not error.filename:
        message = f"cannot write: {error.strerror}"
    if type(error).__name__ == "MXNetError":
        message = f"MXNet: {mxnet_reason(error)}"
    parser = getattr(args, "parser", None)
    if parser is not None:
        message = parser.with_flags(message)
    return write_output() or _print_error(message, code)


def _print_error(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


def mxnet_reason(error: BaseException) -> str:
    """Return the reason that an MXNetError ends with, in one line.

    Examples
    --------
    >>> mxnet_reason(RuntimeError("MXNetError: Check failed: a < b (2 vs. 1) : too big"))
    'too big'
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return re.sub(r"^.*Check failed: .*?\) ?: ", "", lines[-1]) if lines else "unknown error"


def _accept_any_text() -> None:
    """Let the output escape what the locale's encoding lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", None) == "strict":
            with contextlib.suppress(AttributeError):  # a stream of another kind
                stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _nobody_reads() -> bool:
    """Return whether the output is a pipe whose other end is closed."""
    poll = select.poll()
    with contextlib.suppress(OSError, ValueError, AttributeError):  # there is no output
        poll.register(sys.stdout.fileno(), 0)
    return bool(poll.poll(0))


def write_output() -> int:
    """Write the rest of the output; return the exit code if that fails, after one line."""
    if sys.stdout is None:  # closed by the shell
        return 0
    try:
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        # Python would try again on exit.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return BROKEN_PIPE
        reason = getattr(error, "strerror", None) or error
        return _print_error(f"cannot write: {reason}", 2)
    return 0


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
