# SPDX-License-Identifier: Apache-2.0
"""SIGINT and SIGTERM as requests to stop, which the training loop polls between steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import TYPE_CHECKING, Any, Optional

from .base import Observer

if TYPE_CHECKING:
    from ..run import Run


class StopOnSignal(Observer):
    """Context in which the first SIGINT or SIGTERM requests a stop; a second one interrupts.

    ``signum`` is the number of the received signal, or None.
    """

    def __init__(self) -> None:
        self.signum: Optional[int] = None
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> StopOnSignal:
        # Python sets handlers only in the main thread; in others the caller's handlers stay.
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._handlers[signum] = signal.signal(signum, self._receive)
        return self

    def __exit__(self, *exc: object) -> None:
        self._restore()

    def wants_stop(self, run: Run) -> bool:
        """Ask to stop once a signal has arrived."""
        return self.signum is not None

    def _receive(self, signum: int, frame: Optional[FrameType]) -> None:
        if self.signum is not None:
            self._restore()
            raise KeyboardInterrupt(signum)
        self.signum = signum

    def _restore(self) -> None:
        for signum, handler in self._handlers.items():
            signal.signal(signum, handler)
        self._handlers = {}
