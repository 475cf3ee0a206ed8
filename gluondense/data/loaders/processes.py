"""Processes that prepare data beside the one that trains: forked, so that nothing is copied.

They do NumPy, OpenCV and Pillow, never MXNet. Fork them before MXNet has work under way where
possible; MXNet 1.9.1 stops its engine around a fork, so later is possible too.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
import traceback
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Callable

import cv2

_POLL_SECONDS = 1.0


def become_worker(parent: int) -> None:
    """Settle in a new process: one thread, deaf to Ctrl-C and SIGTERM, gone when its parent is.

    Parameters
    ----------
    parent
        Process id of the parent.
    """
    # Terminals and batch systems send these to all processes of a job; the parent decides.
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)
    cv2.setNumThreads(0)
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()


def _leave_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    os._exit(1)  # the parent was killed: no one waits for an orderly end


class Workers:
    """Some processes that do one kind of task, each in the order of submission.

    Parameters
    ----------
    work
        From a task to its result; results must be small and picklable.
    count
        Number of processes; 0 works in a thread of this one.
    """

    def __init__(self, work: Callable[[Any], Any], count: int) -> None:
        self.count = max(count, 1)
        self._lanes: list[_Lane] = (
            [_ProcessLane(work) for _ in range(count)] if count else [_ThreadLane(work)]
        )
        self._waiting = [0] * self.count

    def submit(self, lane: int, task: Any) -> None:
        """Give a task to a process.

        Raises
        ------
        ChildProcessError
            If it died.
        """
        self._lanes[lane].submit(task)
        self._waiting[lane] += 1

    def collect(self, lane: int) -> Any:
        """Wait for the result of the process's oldest task.

        Raises
        ------
        ChildProcessError
            If it died.
        Exception
            What the task raised.
        """
        self._waiting[lane] -= 1
        return self._lanes[lane].collect()

    def drain(self) -> None:
        """Wait for all tasks and forget their results."""
        for lane, waiting in enumerate(self._waiting):
            for _ in range(waiting):
                try:
                    self.collect(lane)
                except ChildProcessError:
                    raise
                except Exception:
                    continue  # of a task that no one wants any more

    def close(self) -> None:
        """End the processes, done or not."""
        for lane in self._lanes:
            lane.close()


class _Lane:
    def submit(self, task: Any) -> None:
        raise NotImplementedError

    def collect(self) -> Any:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class _ThreadLane(_Lane):
    def __init__(self, work: Callable[[Any], Any]) -> None:
        self._work = work
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="gluondense-loader")
        self._pending: deque[Future] = deque()

    def submit(self, task: Any) -> None:
        self._pending.append(self._pool.submit(self._work, task))

    def collect(self) -> Any:
        return self._pending.popleft().result()

    def close(self) -> None:
        self._pool.shutdown(wait=True)


class _ProcessLane(_Lane):
    def __init__(self, work: Callable[[Any], Any]) -> None:
        context = multiprocessing.get_context("fork")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(work, theirs, os.getpid()), daemon=True, name="gluondense-loader"
        )
        self._process.start()
        theirs.close()

    def submit(self, task: Any) -> None:
        try:
            self._pipe.send(task)
        except (BrokenPipeError, ConnectionResetError):
            raise self._died() from None

    def collect(self) -> Any:
        ready = multiprocessing.connection.wait([self._pipe, self._process.sentinel])
        try:
            if self._pipe not in ready:
                raise EOFError
            error, result = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            raise self._died() from None
        if error is not None:
            raise error
        return result

    def close(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def _died(self) -> ChildProcessError:
        self._process.join(1)
        code = self._process.exitcode
        reason = signal.Signals(-code).name if code is not None and code < 0 else f"code {code}"
        return ChildProcessError(
            f"a process that loads pictures died ({reason}), for want of memory perhaps; "
            "resume with fewer workers"
        )


def _serve(work: Callable[[Any], Any], pipe: Any, parent: int) -> None:
    become_worker(parent)
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        try:
            answer: tuple[Any, Any] = None, work(task)
        except (ValueError, OSError) as error:
            answer = error, None
        except Exception as error:
            text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
            answer = RuntimeError(f"in a process that loads pictures:\n{text}"), None
        pipe.send(answer)
