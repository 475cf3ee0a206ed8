"""Error handling of the benchmark commands."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Optional

from gluondense.commands import arguments


def call(run: Callable[[argparse.Namespace], Optional[int]], args: argparse.Namespace) -> int:
    """Call a command's function and return the exit code.

    Errors of the user or of a backend are printed in one line, with exit code 2; Ctrl-C gives 130.
    """
    try:
        return arguments.call(run, args)
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
