# SPDX-License-Identifier: Apache-2.0
"""Workers that train together through MXNet's parameter server (``kvstore="dist_..."``)."""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Callable, Optional

import mxnet as mx
import numpy as np
from mxnet import gluon
from mxnet.base import _LIB, check_call

from .channel import TOKEN_BYTES, Channel, WorkerLost, accept_all, connect, open_hub
from .rank import MISREAD_BY_PS_LITE, PEER_LOST_EXIT
from .server import ServerSchedule
from .workers import Workers

JOIN_SECONDS = 300  # for the scheduler, all servers and all workers to appear
ADDRESS_KEY = 100_000  # of the hub's address in the store; parameters have smaller keys
SCHEDULER = ("DMLC_PS_ROOT_URI", "DMLC_PS_ROOT_PORT")
REQUIRED_VARIABLES = (*SCHEDULER, "DMLC_NUM_WORKER", "DMLC_NUM_SERVER")


class ParameterServerWorkers(Workers):
    """The workers of a run with a ``dist_...`` key-value store.

    Parameters
    ----------
    kvstore, batch_size
        MXNet's name of the store: ``dist_sync``, ``dist_sync_device`` or ``dist_async``; images of
        a step over all workers.
    compression
        Threshold of MXNet's 2-bit gradient compression; 0 or None turns it off.

    Raises
    ------
    ValueError
        If the process wasn't started as a worker, or two workers have the same rank.
    WorkerLost
        If the workers can't reach each other.
    """

    def __init__(self, kvstore: str, batch_size: int, compression: Optional[float] = None) -> None:
        super().__init__(kvstore)
        _check_environment(kvstore)
        self._batch_size, self._compression = batch_size, compression
        self._async = "async" in kvstore
        with _default_signals():
            with _joining():
                self._store = mx.kv.create(kvstore)
            self.world_size = self._store.num_workers
            self.rank = int(os.environ.get("GLUONDENSE_WORKER", self._store.rank))
            try:
                self._channel = self._open_channel()
            except BaseException as error:
                self._abandon(error)
                raise
        if compression:
            # MXNet's combined call doesn't support compressed gradients.
            self._store.pushpull = self._push_then_pull

    def make_trainer(
        self, parameters: gluon.ParameterDict, optimizer: str, settings: Mapping[str, Any]
    ) -> gluon.Trainer:
        """Create the trainer on the shared store; with ``dist_async`` the servers update."""
        threshold = self._compression
        for name, parameter in sorted(parameters.items()):
            if threshold and parameter.dtype not in ("float32", np.float32):
                raise ValueError(
                    f"`compression` (={threshold}) needs float32 gradients, and {name} is "
                    f"{parameter.dtype}: leave it out, or train in float32."
                )
        return gluon.Trainer(
            parameters,
            optimizer,
            dict(settings),
            kvstore=self._store,
            update_on_kvstore=self._async,
            compression_params={"type": "2bit", "threshold": threshold} if threshold else None,
        )

    def init_kvstore(
        self, trainer: gluon.Trainer, schedule: Callable[[int], float], step: int = 0
    ) -> None:
        """Broadcast the parameters of the store's first worker and wait until all have them."""
        self.check_equal("number of steps done", step)
        if self._async:
            # The server gets a copy of the optimizer now and no later changes. It knows parameters
            # by index only, so the multipliers are set by index.
            optimizer = trainer.optimizer
            for index, parameter in enumerate(trainer._params):
                optimizer.wd_mult[index] = parameter.wd_mult
                optimizer.lr_mult[index] = parameter.lr_mult
            trainer._check_and_rescale_grad(1 / self.step_batch_size(0))
            optimizer.lr_scheduler = ServerSchedule(schedule, self.world_size, step)
            trainer._init_kvstore()
            optimizer.lr_scheduler = None
        else:
            trainer._init_kvstore()
        trainer._init_params()
        # A first step could overtake these pulls, which would then fetch the summed gradients.
        mx.nd.waitall()
        self.all_gather(None)

    def step_batch_size(self, images: int) -> float:
        """Return ``images``; with ``dist_async``, where each gradient is a step, one share of it.

        With ``dist_async`` the value is constant, as the servers get no later changes.
        """
        return self._batch_size / self.world_size if self._async else images

    def all_gather(self, value: Any) -> list[Any]:
        """Return the values of all workers by rank; a value must be JSON-serializable."""
        return [json.loads(text) for text in self._channel.all_gather(json.dumps(value).encode())]

    def all_gather_rows(self, rows: np.ndarray) -> np.ndarray:
        """Concatenate the rows of all workers by rank."""
        shapes = self.all_gather(rows.shape)
        parts = self._channel.all_gather(np.ascontiguousarray(rows).tobytes())
        return np.concatenate(
            [np.frombuffer(part, rows.dtype).reshape(shape) for part, shape in zip(parts, shapes)]
        )

    def synchronize(self, net: gluon.Block, trainer: gluon.Trainer) -> None:
        """Pull the servers' weights with ``dist_async``, and average the running statistics."""
        mx.nd.waitall()
        self.all_gather(None)
        if self._async:
            for index, parameter in enumerate(trainer._params):
                if parameter.grad_req != "null":
                    self._store.pull(index, parameter.list_data())
        statistics = list(net.collect_params(".*running_(mean|var)$").values())
        local = [
            np.mean([array.asnumpy() for array in parameter.list_data()], axis=0)
            for parameter in statistics
        ]
        row = np.concatenate([np.empty(0, np.float32), *local])[None]
        means = self.all_gather_rows(row).mean(axis=0)
        ends = np.cumsum([len(array) for array in local])
        for parameter, mean in zip(statistics, np.split(means, ends)):
            for array in parameter.list_data():  # set_data would initialize the store again
                array[:] = mean
        mx.nd.waitall()

    def close(self, error: Optional[BaseException] = None) -> None:
        """Wait for all workers and leave the store, or leave at once because of an error."""
        if error is not None:
            self._channel.close()
            self._abandon(error)
            return
        mx.nd.waitall()
        self.all_gather(None)
        self._channel.close()
        handle, self._store.handle = self._store.handle, None
        check_call(_LIB.MXKVStoreFree(handle))

    def _abandon(self, error: BaseException) -> None:
        # MXNet would wait for the other workers forever, here and at the process's exit.
        self._store.handle = None
        atexit.register(_exit, _exit_code(error))

    def _push_then_pull(self, key: int, value: list, out: Any = None, priority: int = 0) -> None:
        self._store.push(key, value, priority)
        self._store.pull(key, value if out is None else out, priority)

    def _open_channel(self) -> Channel:
        """Connect all workers to the hub: the store's first worker, which publishes its address."""
        host, is_hub = _local_address(), self._store.rank == 0
        listener, token = open_hub(self.world_size, host) if is_hub else (None, b"")
        port = listener.getsockname()[1] if listener else 0
        numbers = [*socket.inet_aton(host), *divmod(port, 256), *divmod(self.rank, 256), *token]
        numbers += [0] * (8 + TOKEN_BYTES - len(numbers))
        published = mx.nd.array(numbers)
        # The store keeps the value of its first worker only.
        self._store.init(ADDRESS_KEY, published)
        if listener:
            return accept_all(self.rank, self.world_size, listener, token)
        self._store.pull(ADDRESS_KEY, published)
        numbers = [int(number) for number in published.asnumpy()]
        address = socket.inet_ntoa(bytes(numbers[:4])), numbers[4] * 256 + numbers[5]
        hub = numbers[6] * 256 + numbers[7]
        return connect(self.rank, self.world_size, hub, address, bytes(numbers[8:]))


def _check_environment(kvstore: str) -> None:
    missing = [name for name in REQUIRED_VARIABLES if not os.environ.get(name)]
    if os.environ.get("DMLC_ROLE") != "worker" or missing:
        raise ValueError(
            f"`kvstore` is {kvstore!r}, but this process isn't a worker of a distributed "
            f"run ({', '.join(missing) or 'DMLC_ROLE=worker'} is not set): start it with "
            "`gluondense launch`, or set `kvstore` to device."
        )
    if "async" in kvstore and "GLUONDENSE_WORKER" not in os.environ:
        raise ValueError(
            f"`kvstore` {kvstore!r} needs servers that import gluondense, which MXNet's own "
            "launcher doesn't start: use `gluondense launch`, or dist_sync."
        )


@contextmanager
def _joining() -> Iterator[None]:
    """Limit the time to join, as MXNet waits forever, and hide variables that ps-lite misreads."""
    hidden = {name: os.environ.pop(name) for name in MISREAD_BY_PS_LITE if name in os.environ}
    timer = threading.Timer(JOIN_SECONDS, _exit_unjoined)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        os.environ.update(hidden)


@contextmanager
def _default_signals() -> Iterator[None]:
    """Let signals end the process: a Python handler would wait for MXNet, which waits for peers."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread sets handlers
        return
    signums = (signal.SIGINT, signal.SIGTERM)
    handlers = [signal.signal(signum, signal.SIG_DFL) for signum in signums]
    try:
        yield
    finally:
        for signum, handler in zip(signums, handlers):
            signal.signal(signum, handler)


def _exit_code(error: BaseException) -> int:
    """Return the exit code of a worker that leaves because of an error, see `commands`."""
    if isinstance(error, WorkerLost):
        return PEER_LOST_EXIT
    if isinstance(error, KeyboardInterrupt):
        return 128 + (error.args[0] if error.args else signal.SIGINT)
    return 2 if isinstance(error, (ValueError, OSError)) else 1


def _exit(code: int) -> None:
    """End the process without MXNet's exit handlers."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _exit_unjoined() -> None:
    uri, port, workers, servers = (os.environ.get(name) for name in REQUIRED_VARIABLES)
    message = (
        f"error: the scheduler at {uri}:{port}, {servers} servers and {workers} workers did not "
        f"all connect within {JOIN_SECONDS} s: check that each runs and reaches the others on all "
        "ports."
    )
    print(message, file=sys.stderr)
    _exit(1)


def _local_address() -> str:
    """Return the IPv4 address of this host's interface towards the scheduler."""
    if os.environ.get("DMLC_NODE_HOST"):
        return socket.gethostbyname(os.environ["DMLC_NODE_HOST"])
    host, port = (os.environ[name] for name in SCHEDULER)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, int(port)))  # sends nothing
        return probe.getsockname()[0]
