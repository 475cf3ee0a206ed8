# SPDX-License-Identifier: Apache-2.0
"""Worker processes that prepare data during training; they are forked, so that nothing is copied.

They run NumPy, OpenCV and Pillow, never MXNet. Fork them before MXNet has pending work if possible.
MXNet 1.9.1 stops its engine around a fork, so a later fork works too.
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


def init_worker(parent: int) -> None:
    """Initialize a worker process: one thread for OpenCV, SIGINT and SIGTERM ignored.

    It exits when the process ``parent`` exits.
    """
    # Terminals and batch systems send these to all processes of a job; the parent handles them.
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)
    cv2.setNumThreads(0)
    threading.Thread(target=_exit_with, args=(parent,), daemon=True).start()


def _exit_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    os._exit(1)  # the parent was killed, so nothing waits for an orderly shutdown


class WorkerPool:
    """A pool of ``count`` processes, or one thread if ``count`` is 0, that runs ``work`` on tasks.

    Each worker runs its tasks in the order of submission. Results must be small and picklable. If
    a process has died, :meth:`submit` and :meth:`collect` raise a ChildProcessError.
    """

    def __init__(self, work: Callable[[Any], Any], count: int) -> None:
        self.count = max(count, 1)
        self._workers: list[_Process | _Thread] = (
            [_Process(work) for _ in range(count)] if count else [_Thread(work)]
        )
        self._waiting = [0] * self.count

    def submit(self, worker: int, task: Any) -> None:
        """Submit a task to a worker."""
        self._workers[worker].submit(task)
        self._waiting[worker] += 1

    def collect(self, worker: int) -> Any:
        """Wait for the result of a worker's oldest task, or raise the task's exception."""
        self._waiting[worker] -= 1
        return self._workers[worker].collect()

    def drain(self) -> None:
        """Wait for all tasks and discard their results."""
        for worker, waiting in enumerate(self._waiting):
            for _ in range(waiting):
                try:
                    self.collect(worker)
                except ChildProcessError:
                    raise
                except Exception:
                    continue  # the result of this task is not needed any more

    def close(self) -> None:
        """End the processes, even if they have tasks."""
        for worker in self._workers:
            worker.close()


class _Thread:
    """One worker of a pool without processes."""

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


class _Process:
    """One worker process of a pool and the pipe to it."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        context = multiprocessing.get_context("fork")
        self._pipe, child_pipe = context.Pipe()
        args = work, child_pipe, os.getpid()
        self._process = context.Process(
            target=_serve, args=args, daemon=True, name="gluondense-loader"
        )
        self._process.start()
        child_pipe.close()

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
            f"a data loading process died ({reason}), perhaps for lack of memory; "
            "resume with fewer workers"
        )


def _serve(work: Callable[[Any], Any], pipe: Any, parent: int) -> None:
    """Run tasks from the pipe until it is closed, and send back (exception, result) of each."""
    init_worker(parent)
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        try:
            reply: tuple[Any, Any] = None, work(task)
        except (ValueError, OSError) as error:
            reply = error, None
        except Exception as error:
            text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
            reply = RuntimeError(f"in a data loading process:\n{text}"), None
        pipe.send(reply)
