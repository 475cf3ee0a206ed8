# SPDX-License-Identifier: Apache-2.0
"""A server or the scheduler of a distributed run.

MXNet's own servers serve from inside ``import mxnet``, where unpickling an optimizer that a worker
sent cannot import anything that needs MXNet: the error goes to the server's output and training
continues with wrong weights. This module imports everything before it serves, and an error ends
the process, which the launcher notices.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from typing import Any, Callable

from mxnet.kvstore import kvstore_server

from ...environment.process import import_gluoncv


class ServerSchedule:
    """A learning-rate schedule for servers that update the weights (``dist_async``).

    Servers count the updates of all workers; this class converts updates to steps. The worker
    pickles it with the optimizer, so it holds only objects that the server can import.

    Parameters
    ----------
    schedule
        Learning rate as a function of the step.
    workers
        Updates per step.
    start
        Number of steps done before the server's first update.

    Examples
    --------
    >>> rate = ServerSchedule([0.4, 0.3, 0.2].__getitem__, workers=2)
    >>> [rate(update) for update in (1, 2, 3, 4, 5)]
    [0.4, 0.4, 0.3, 0.3, 0.2]
    """

    def __init__(self, schedule: Callable[[int], float], workers: int, start: int = 0) -> None:
        self._schedule, self._workers, self._start = schedule, workers, start

    def __call__(self, update: int) -> float:
        """Return the learning rate of an update, counted from 1."""
        return self._schedule(self._start + (update - 1) // self._workers)


def main(argv: list[str]) -> None:
    """Serve until the workers have finished."""
    parser = argparse.ArgumentParser(
        prog="python -m gluondense.training.distributed.server", description=__doc__
    )
    parser.add_argument("role", choices=("scheduler", "server"))
    os.environ["DMLC_ROLE"] = parser.parse_args(argv).role
    import_gluoncv()
    sys.unraisablehook = _exit_on_error
    kvstore_server._init_kvstore_server_module()


def _exit_on_error(error: Any) -> None:
    """End the process on an error in a callback, which Python would print and ignore."""
    traceback.print_exception(error.exc_type, error.exc_value, error.exc_traceback)
    print(f"error: the server stops: {error.exc_value}", file=sys.stderr, flush=True)
    os._exit(1)


if __name__ == "__main__":
    # Pickled optimizers refer to this module by its name; as ``__main__`` it would be loaded twice.
    from gluondense.training.distributed import server

    server.main(sys.argv[1:])
