"""The processes that train one network together: many, at MXNet's parameter server."""

from __future__ import annotations

import atexit
import json
import os
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

from ..config import TrainConfig
from ..server_schedule import ServerSchedule
from .channel import SECRET_BYTES, Channel, WorkerLost, accept_all, connect, open_hub
from .launcher import LOST_EXIT
from .workers import Workers

JOIN_SECONDS = 300  # for the scheduler, all servers and all workers to appear
ADDRESS_KEY = 100_000  # on the server, where the numbers of parameters end long before
# What ps-lite reads beside the DMLC_ variables, and what containers export for other reasons: it
# takes a PORT for its own, and with a DMLC_RANK doesn't learn its number from the scheduler.
NOT_FOR_PS_LITE = ("PORT", "DMLC_RANK")
NEEDED = (
    "DMLC_PS_ROOT_URI",
    "DMLC_PS_ROOT_PORT",
    "DMLC_NUM_WORKER",
    "DMLC_NUM_SERVER",
)


class ConnectedWorkers(Workers):
    """The workers of a run with a ``dist_…`` key-value store.

    Raises
    ------
    ValueError
        If the process wasn't started as a worker, or a batch has no image for each device.
    WorkerLost
        If the workers can't reach each other.
    """

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        _check_environment(config)
        with _joining():
            self._store = mx.kv.create(config.kvstore)
        self.count = self._store.num_workers
        self.rank = int(os.environ.get("GLUONDENSE_WORKER", self._store.rank))
        self._async = "async" in config.kvstore
        try:
            self._channel = self._open_channel()
        except (ValueError, OSError) as error:
            self._abandon(error)
            raise
        if config.compression:
            # MXNet's own call for both refuses compressed gradients.
            self._store.pushpull = self._push_then_pull

    def trainer(
        self, parameters: gluon.ParameterDict, optimizer: str, settings: Mapping[str, Any]
    ) -> gluon.Trainer:
        """Make the trainer on the common store; with ``dist_async`` the servers update."""
        threshold = self._config.compression
        halves = sorted(
            p.name for p in parameters.values() if p.dtype not in ("float32", np.float32)
        )
        if threshold and halves:
            raise ValueError(
                f"`compression` (={threshold}) is of float32 gradients only, and {halves[0]} is "
                f"{parameters[halves[0]].dtype}: leave it out, or train in float32."
            )
        return gluon.Trainer(
            parameters,
            optimizer,
            dict(settings),
            kvstore=self._store,
            update_on_kvstore=self._async,
            compression_params={"type": "2bit", "threshold": threshold} if threshold else None,
        )

    def start(
        self, trainer: gluon.Trainer, schedule: Callable[[int], float], step: int = 0
    ) -> None:
        """Send the parameters of the server's first worker to all, and wait for their arrival."""
        self.check_same("number of steps done", step)
        if self._async:
            # The server gets a copy of the optimizer now, and hears of no later change; there it
            # doesn't know the parameters, only their numbers.
            optimizer = trainer.optimizer
            for index, parameter in enumerate(trainer._params):
                optimizer.wd_mult[index] = parameter.wd_mult
                optimizer.lr_mult[index] = parameter.lr_mult
            trainer._check_and_rescale_grad(1 / self.step_size(0))
            optimizer.lr_scheduler = ServerSchedule(schedule, self.count, step)
            trainer._init_kvstore()
            optimizer.lr_scheduler = None
        else:
            trainer._init_kvstore()
        trainer._init_params()
        # A first step could overtake these pulls: then the gradients' sum comes as the weights.
        mx.nd.waitall()
        self.exchange(None)

    def step_size(self, images: int) -> float:
        """Return the images of all, or one worker's share where each gradient is a step."""
        # Fixed, as the servers hear of no later change.
        return self._config.batch_size / self.count if self._async else images

    def exchange(self, value: Any) -> list[Any]:
        """Give a value that JSON can hold to all workers; return theirs, by rank."""
        return [json.loads(text) for text in self._channel.exchange(json.dumps(value).encode())]

    def gather(self, rows: np.ndarray) -> np.ndarray:
        """Concatenate the rows of all workers, by rank."""
        shapes = self.exchange(rows.shape)
        parts = self._channel.exchange(np.ascontiguousarray(rows).tobytes())
        return np.concatenate(
            [np.frombuffer(part, rows.dtype).reshape(shape) for part, shape in zip(parts, shapes)]
        )

    def settle(self, net: gluon.Block, trainer: gluon.Trainer) -> None:
        """Pull what the servers hold, and average BatchNorm's running statistics."""
        mx.nd.waitall()
        self.exchange(None)
        if self._async:
            for index, parameter in enumerate(trainer._params):
                if parameter.grad_req != "null":
                    self._store.pull(index, parameter.list_data())
        statistics = list(net.collect_params(".*running_(mean|var)$").values())
        own = [
            np.mean([array.asnumpy() for array in parameter.list_data()], axis=0)
            for parameter in statistics
        ]
        means = self.gather(np.concatenate([np.empty(0, np.float32), *own])[None]).mean(axis=0)
        ends = np.cumsum([len(array) for array in own])
        for parameter, mean in zip(statistics, np.split(means, ends)):
            for array in parameter.list_data():  # set_data would start the store anew
                array[:] = mean
        mx.nd.waitall()

    def close(self, error: Optional[BaseException] = None) -> None:
        """Leave together with all others, or at once because of an error."""
        if error is not None:
            self._channel.close()
            self._abandon(error)
            return
        mx.nd.waitall()
        self.exchange(None)
        self._channel.close()
        handle, self._store.handle = self._store.handle, None
        check_call(_LIB.MXKVStoreFree(handle))

    def _abandon(self, error: BaseException) -> None:
        # MXNet would wait for the others for ever, here and when the process ends.
        self._store.handle = None
        lost, refused = isinstance(error, WorkerLost), isinstance(error, (ValueError, OSError))
        atexit.register(_leave, LOST_EXIT if lost else 2 if refused else 1)

    def _push_then_pull(
        self, key: int, value: list, out: Optional[list] = None, priority: int = 0
    ) -> None:
        self._store.push(key, value, priority)
        self._store.pull(key, value if out is None else out, priority)

    def _open_channel(self) -> Channel:
        """Connect the workers to the one that is the server's first, which tells where it is."""
        host, hub = _own_address(), self._store.rank == 0
        listener, secret = open_hub(self.rank, self.count, host) if hub else (None, b"")
        port = listener.getsockname()[1] if listener else 0
        facts = [*socket.inet_aton(host), *divmod(port, 256), *divmod(self.rank, 256), *secret]
        facts += [0] * (8 + SECRET_BYTES - len(facts))
        told = mx.nd.array(facts)
        # Only the value of the server's first worker is taken.
        self._store.init(ADDRESS_KEY, told)
        if listener:
            return accept_all(self.rank, self.count, listener, secret)
        self._store.pull(ADDRESS_KEY, told)
        numbers = [int(number) for number in told.asnumpy()]
        address = socket.inet_ntoa(bytes(numbers[:4])), numbers[4] * 256 + numbers[5]
        return connect(
            self.rank, self.count, numbers[6] * 256 + numbers[7], address, bytes(numbers[8:])
        )


def _check_environment(config: TrainConfig) -> None:
    missing = [name for name in NEEDED if not os.environ.get(name)]
    if os.environ.get("DMLC_ROLE") != "worker" or missing:
        raise ValueError(
            f"`kvstore` is {config.kvstore!r}, but this process isn't a worker of a distributed "
            f"run ({', '.join(missing) or 'DMLC_ROLE=worker'} is not set): start it with "
            "scripts/launch.py, or pass --kvstore device."
        )
    if "async" in config.kvstore and "GLUONDENSE_WORKER" not in os.environ:
        raise ValueError(
            f"`kvstore` {config.kvstore!r} needs servers that know gluondense, which MXNet's own "
            "launcher doesn't start: use scripts/launch.py, or dist_sync."
        )


@contextmanager
def _joining() -> Iterator[None]:
    """Say whom MXNet waits for, as it never gives up, and keep from ps-lite what misleads it."""
    kept = {name: os.environ.pop(name) for name in NOT_FOR_PS_LITE if name in os.environ}
    timer = threading.Timer(JOIN_SECONDS, _nobody_came)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        os.environ.update(kept)


def _leave(code: int) -> None:
    """End the process like a script that failed."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def _nobody_came() -> None:
    say = os.environ.get
    print(
        f"error: the scheduler at {say('DMLC_PS_ROOT_URI')}:{say('DMLC_PS_ROOT_PORT')}, "
        f"{say('DMLC_NUM_SERVER')} servers and {say('DMLC_NUM_WORKER')} workers have not all come "
        f"within {JOIN_SECONDS} s: see whether each runs and reaches the others on all ports.",
        file=sys.stderr,
        flush=True,
    )
    os._exit(1)


def _own_address() -> str:
    """Return the address at which other workers reach this host: where it meets the scheduler."""
    if os.environ.get("DMLC_NODE_HOST"):
        return socket.gethostbyname(os.environ["DMLC_NODE_HOST"])
    scheduler = os.environ["DMLC_PS_ROOT_URI"], int(os.environ["DMLC_PS_ROOT_PORT"])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(scheduler)  # sends nothing
        return probe.getsockname()[0]
