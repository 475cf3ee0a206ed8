"""Arguments and modules of commands, for several test modules."""

from __future__ import annotations

import importlib
import json

from support.training_tiny import TINY

SMALL = [
    *("--model=densenet121", "--input-size=16", "--batch-size=8", "-j1", "--no-progress"),
    *(f"--set={name}={json.dumps(value)}" for name, value in TINY.model.args.items()),
    *("--lr=0.05", "--no-lr-scaling"),
]


def load_script(root, name):
    return importlib.import_module(f"gluondense.commands.{name}")
