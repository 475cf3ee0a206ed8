# SPDX-License-Identifier: Apache-2.0
"""The ``gluondense`` command: finds the module of a command and calls its ``main``."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple, NoReturn, Optional

from .commands.interruption import interruptible, use_default_signals
from .commands.output import call
from .errors import closest
from .version import __version__


class Command(NamedTuple):
    """A row of `COMMANDS`: a module of :mod:`gluondense.commands` and one line of help."""

    module: str
    help: str


COMMANDS = {
    "models": Command("models", "list the names of the networks"),
    "stats": Command("model_stats", "count parameters, multiply-adds, activations, memory"),
    "train fashion-mnist": Command("train.fashion_mnist", "train on Fashion-MNIST or digits"),
    "train cifar": Command("train.cifar", "train on CIFAR-10, CIFAR-100 or SVHN"),
    "train imagenet": Command("train.imagenet", "train on ImageNet, from folders or RecordIO"),
    "train folder": Command("train.folder", "train on your own images: class folders or CSV"),
    "train detection": Command("train.detection", "train a detector: VOC, COCO or CSV boxes"),
    "experiment": Command("experiment", "train the networks of a table, over seeds"),
    "evaluate": Command("evaluate", "measure accuracy on a test set"),
    "export": Command("export", "export a trained network for MXNet or ONNX"),
    "predict": Command("predict", "classify images"),
    "demo": Command("demo", "open a page that classifies dropped images"),
    "explain cam": Command("explain.cam", "show which parts of images are evidence for a class"),
    "explain reuse": Command("explain.reuse", "show which layers use which previous ones"),
    "explain gradients": Command("explain.gradients", "show where gradients flow in dense stages"),
    "detection anchors": Command("detection.anchors", "find anchors for the boxes of a data set"),
    "archive": Command("archive", "pack an export for a model server"),
    "convert": Command("convert_weights", "convert weights between MXNet and PyTorch"),
    "make-recordio": Command("make_recordio", "pack images into a RecordIO file"),
    "launch": Command("launch", "start the processes of a distributed run"),
    "report": Command("report", "write the report of a run again"),
    "save-samples": Command("save_samples", "write test images of a run as PNG files"),
    "doctor": Command("doctor", "check MXNet, GPUs, threads, compiler and packages"),
}

# First words of the commands of two words.
GROUPS = {name.split()[0] for name in COMMANDS if " " in name}


def run() -> NoReturn:
    """Run a command, then end the process with its exit code."""
    code = main()
    use_default_signals()
    sys.exit(code)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run a command and return its exit code; 2 for a command line that cannot be understood."""
    words = list(sys.argv[1:] if argv is None else argv)
    return interruptible(lambda: _main(words))


def _main(words: list[str]) -> int:
    if words[:1] == ["--version"]:
        return _show(f"gluondense {__version__}")
    for count in (1, 2):
        name = " ".join(words[:count])
        if name in COMMANDS:
            return _call(name, words[count:])
    group = f"{words[0]} " if words and words[0] in GROUPS else ""
    rest = words[1:] if group else words
    if not rest or rest[0] in ("-h", "--help"):
        if rest:
            return _show(_help(group))
        print(_help(group), file=sys.stderr)
        return 2
    names = {name[len(group) :].split()[0] for name in COMMANDS if name.startswith(group)}
    print(
        f"error: unknown command {group + rest[0]!r}{closest(rest[0], sorted(names))} "
        f"(see gluondense {group}--help)",
        file=sys.stderr,
    )
    return 2


def _show(text: str) -> int:
    return call(lambda _: print(text), argparse.Namespace())


def _help(group: str) -> str:
    rows = {name: row.help for name, row in COMMANDS.items() if name.startswith(group)}
    width = max(map(len, rows))
    lines = "\n".join(f"  {name:<{width}}  {text}" for name, text in rows.items())
    return (
        f"usage: gluondense {group}COMMAND [argument ...]\n\n{lines}\n\n"
        "gluondense COMMAND --help lists the arguments of a command."
    )


def _call(name: str, arguments: list[str]) -> int:
    """Call a command's ``main``; its usage and messages show the name it was called by."""
    program = sys.argv[0]
    sys.argv[0] = f"gluondense {name}"
    try:
        module = importlib.import_module(f"gluondense.commands.{COMMANDS[name].module}")
        return module.main(arguments)
    finally:
        sys.argv[0] = program


if __name__ == "__main__":
    run()
