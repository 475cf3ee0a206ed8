"""A server or scheduler of a distributed run.

MXNet's own serve from inside ``import mxnet``, where the optimizers that workers send can't import
anything that needs MXNet: the error goes to the server's output, and training goes on with garbage.
Here all is imported before serving starts, and an error ends the process: the launcher notices.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from typing import Any

from mxnet.kvstore import kvstore_server

from ...environment.process import import_gluoncv


def main(argv: list[str]) -> None:
    """Serve until the workers have finished."""
    parser = argparse.ArgumentParser(
        prog="python -m gluondense.training.distributed.server", description=__doc__
    )
    parser.add_argument("role", choices=("scheduler", "server"))
    os.environ["DMLC_ROLE"] = parser.parse_args(argv).role
    import_gluoncv()
    sys.unraisablehook = _give_up
    kvstore_server._init_kvstore_server_module()


def _give_up(error: Any) -> None:
    """Take what Python would print and forget: an error in a function that MXNet called."""
    traceback.print_exception(error.exc_type, error.exc_value, error.exc_traceback)
    print(f"error: the server stops: {error.exc_value}", file=sys.stderr, flush=True)
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
