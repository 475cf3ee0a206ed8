"""Small messages between the workers of a distributed run, beside MXNet's parameter server.

The server adds up gradients and nothing else: what it stores under other keys is compressed with
them, and with ``dist_async`` it is updated by the optimizer. Sums of losses, answers and wishes to
stop go from every worker to the first one, which sends all of them to all.
"""

from __future__ import annotations

import os
import secrets
import select
import socket
import struct
import sys
import threading
import time
from typing import Optional

from .launcher import LOST_EXIT

SECRET_BYTES = 16
CONNECT_SECONDS = 120.0
HELLO_SECONDS = 10.0
# A host that lost its power or its cable says nothing; without these that goes unnoticed for hours.
LOST_AFTER = (
    (socket.TCP_KEEPIDLE, 4),
    (socket.TCP_KEEPINTVL, 2),
    (socket.TCP_KEEPCNT, 3),
    (socket.TCP_USER_TIMEOUT, 10_000),  # milliseconds, for what was sent and not acknowledged
)
LEAVE_SECONDS = 3.0  # for the main thread to say itself what is wrong
_SIZE = struct.Struct("!Q")


class WorkerLost(ConnectionError):
    """Another worker of the run has gone."""


class Channel:
    """A star of connections: every worker's message comes back to every worker, in their order.

    All workers must call :meth:`exchange` equally often. A worker that has gone is noticed by the
    others in the next exchange, or by a thread while they wait for something else.

    Parameters
    ----------
    rank, count
        Number of this worker, and how many there are.
    links
        Connections by rank: to all others on the hub, else the one to the hub.
    hub
        Whether this worker is in the middle.
    """

    def __init__(self, rank: int, count: int, links: dict[int, socket.socket], hub: bool) -> None:
        self.rank, self.count, self._links, self._hub = rank, count, links, hub
        self._closed = threading.Event()
        for link in links.values():
            link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in LOST_AFTER:
                link.setsockopt(socket.IPPROTO_TCP, option, value)
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=self._watch, daemon=True).start()

    def exchange(self, message: bytes) -> list[bytes]:
        """Give a message to all workers and return theirs, by rank.

        Raises
        ------
        WorkerLost
            If a worker has gone.
        """
        if self._hub:
            messages = {rank: self._receive(rank) for rank in self._links}
            messages[self.rank] = message
            everything = [messages[rank] for rank in range(self.count)]
            for rank in self._links:
                for item in everything:
                    self._send(rank, item)
            return everything
        (hub,) = self._links
        self._send(hub, message)
        return [self._receive(hub) for _ in range(self.count)]

    def close(self) -> None:
        """Leave; others that still wait for a message from here raise ``WorkerLost``."""
        self._closed.set()
        for link in self._links.values():
            link.close()

    def _send(self, rank: int, message: bytes) -> None:
        try:
            self._links[rank].sendall(_SIZE.pack(len(message)) + message)
        except OSError:
            raise self._lost(rank) from None

    def _receive(self, rank: int) -> bytes:
        try:
            return receive(self._links[rank])
        except (OSError, EOFError):
            raise self._lost(rank) from None

    def _lost(self, rank: int) -> WorkerLost:
        whose = f"worker {rank}" if self._hub else f"worker {rank} or one that it waited for"
        return WorkerLost(
            f"{whose} has gone (killed, stopped by an error, or cut off), so worker {self.rank} "
            "stops too: see that worker's messages, then continue with --resume."
        )

    def _watch(self) -> None:
        """End the process if a peer has gone while the main thread waits inside MXNet for it."""
        ranks = {link.fileno(): rank for rank, link in self._links.items()}
        poll = select.poll()
        for number in ranks:
            poll.register(number, select.POLLRDHUP)
        while not self._closed.is_set():
            for number, _ in poll.poll(1000):
                if not self._closed.wait(LEAVE_SECONDS):
                    print(f"error: {self._lost(ranks[number])}", file=sys.stderr, flush=True)
                    os._exit(LOST_EXIT)


def open_hub(rank: int, count: int, host: str) -> tuple[socket.socket, bytes]:
    """Listen on a free port of ``host``; return the socket and what others must know to connect."""
    listener = socket.create_server((host, 0), backlog=count)
    return listener, secrets.token_bytes(SECRET_BYTES)


def accept_all(rank: int, count: int, listener: socket.socket, secret: bytes) -> Channel:
    """Wait for all other workers at the hub.

    Raises
    ------
    WorkerLost
        If one doesn't come in time.
    """
    links: dict[int, socket.socket] = {}
    until = time.monotonic() + CONNECT_SECONDS
    with listener:
        while len(links) < count - 1:
            listener.settimeout(max(until - time.monotonic(), 0.001))
            try:
                link, _ = listener.accept()
            except OSError:
                missing = sorted(set(range(count)) - {rank} - set(links))
                raise WorkerLost(
                    f"Workers {missing} did not reach worker {rank} at {listener.getsockname()} "
                    f"within {CONNECT_SECONDS:g} s: let workers reach each other on all ports."
                ) from None
            other = _introduced(link, secret, until)
            if other is None:
                link.close()
            elif other in links or other == rank or other >= count:
                for opened in (link, *links.values()):
                    opened.close()
                raise ValueError(
                    f"Two workers call themselves number {other} of {count}: give each its own "
                    "GLUONDENSE_WORKER from 0 up, as scripts/launch.py does, or none any."
                )
            else:
                links[other] = link
    return Channel(rank, count, links, hub=True)


def _introduced(link: socket.socket, secret: bytes, until: float) -> Optional[int]:
    """Return the rank of a worker that knows the secret, None for anybody else."""
    link.settimeout(max(min(until - time.monotonic(), HELLO_SECONDS), 0.001))
    try:
        hello = receive(link, limit=SECRET_BYTES + _SIZE.size)
        link.settimeout(None)
    except (OSError, EOFError):
        return None
    if len(hello) != SECRET_BYTES + _SIZE.size:
        return None
    if not secrets.compare_digest(hello[:SECRET_BYTES], secret):
        return None
    return _SIZE.unpack(hello[SECRET_BYTES:])[0]


def connect(rank: int, count: int, hub: int, address: tuple[str, int], secret: bytes) -> Channel:
    """Connect to the hub, worker ``hub``.

    Raises
    ------
    WorkerLost
        If it can't be reached.
    """
    try:
        link = socket.create_connection(address, timeout=CONNECT_SECONDS)
    except OSError as error:
        raise WorkerLost(
            f"Worker {rank} can't reach worker {hub} at {address[0]}:{address[1]} ({error}): "
            "let workers reach each other on all ports."
        ) from None
    link.settimeout(None)
    hello = secret + _SIZE.pack(rank)
    link.sendall(_SIZE.pack(len(hello)) + hello)
    return Channel(rank, count, {hub: link}, hub=False)


def receive(link: socket.socket, limit: int = 2**40) -> bytes:
    """Read one message.

    Raises
    ------
    EOFError
        If the other side closed the connection.
    OSError
        If the connection broke, or what comes is longer than ``limit`` bytes.
    """
    (size,) = _SIZE.unpack(_read(link, _SIZE.size))
    if size > limit:
        raise OSError(f"a message of {size} bytes, where at most {limit} are expected")
    return bytes(_read(link, size))


def _read(link: socket.socket, size: int) -> bytearray:
    buffer = bytearray(size)
    view, done = memoryview(buffer), 0
    while done < size:
        got = link.recv_into(view[done:])
        if not got:
            raise EOFError
        done += got
    return buffer
