"""Ctrl-C and SIGTERM turned into a wish that the training loop looks at between two steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any, Optional, TypeVar

T = TypeVar("T")


class Stopped(Exception):
    """A signal came while :meth:`StopRequest.watch` was going."""


class StopRequest:
    """Context in which the first SIGINT or SIGTERM is only noted; a second one interrupts at once.

    Attributes
    ----------
    signum
        The signal that came, or None.

    Examples
    --------
    >>> with StopRequest() as stop:
    ...     stop.signum is None
    True
    """

    def __init__(self) -> None:
        self.signum: Optional[int] = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        # Python lets only the main thread set handlers; elsewhere the caller's handling stays.
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._before[signum] = signal.signal(signum, self._note)
        return self

    def __exit__(self, *exc: object) -> None:
        self._restore()

    def watch(self, items: Iterable[T]) -> Iterator[T]:
        """Pass the items on until a signal comes.

        Raises
        ------
        Stopped
            Instead of the next item, once a signal has come.
        """
        for item in items:
            if self.signum is not None:
                raise Stopped
            yield item

    def _note(self, signum: int, frame: Optional[FrameType]) -> None:
        if self.signum is not None:
            self._restore()
            raise KeyboardInterrupt
        self.signum = signum

    def _restore(self) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        self._before = {}
