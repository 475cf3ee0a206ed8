# SPDX-License-Identifier: Apache-2.0
"""Small messages between the workers of a distributed run, beside MXNet's parameter server.

The parameter server only sums gradients: values under other keys are compressed with them, and
with ``dist_async`` the optimizer updates them. Loss sums, predictions and stop requests use TCP
connections instead: every worker sends to the hub, which sends all messages to all workers.
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

from .rank import PEER_LOST_EXIT

TOKEN_BYTES = 16
CONNECT_SECONDS = 120.0
HANDSHAKE_SECONDS = 10.0
# Without keep-alive, a host that loses power or network goes unnoticed for hours.
KEEPALIVE_OPTIONS = (
    (socket.TCP_KEEPIDLE, 4),
    (socket.TCP_KEEPINTVL, 2),
    (socket.TCP_KEEPCNT, 3),
    (socket.TCP_USER_TIMEOUT, 10_000),  # milliseconds, for data sent and not acknowledged
)
GRACE_SECONDS = 3.0  # for the main thread to report the error itself
_SIZE = struct.Struct("!Q")


class WorkerLost(ConnectionError):
    """Another worker of the run has exited or can't be reached."""


class Channel:
    """All-gather of byte strings over a star of TCP connections.

    All workers must call :meth:`all_gather` equally often. The loss of a worker raises
    ``WorkerLost`` in the next call on the others; if their main thread waits elsewhere, a watching
    thread ends their process.

    Parameters
    ----------
    rank, world_size
        Index of this worker, and the number of workers.
    connections
        Sockets by rank: on the hub to all other workers, elsewhere to the hub only.
    is_hub
        Whether this worker is the hub.
    """

    def __init__(
        self, rank: int, world_size: int, connections: dict[int, socket.socket], is_hub: bool
    ) -> None:
        self.rank, self.world_size = rank, world_size
        self._connections, self._is_hub = connections, is_hub
        self._closed = threading.Event()
        for connection in connections.values():
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in KEEPALIVE_OPTIONS:
                connection.setsockopt(socket.IPPROTO_TCP, option, value)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=self._watch, daemon=True).start()

    def all_gather(self, message: bytes) -> list[bytes]:
        """Send a message to all workers and return the messages of all workers by rank."""
        if self._is_hub:
            messages = {rank: self._receive(rank) for rank in self._connections}
            messages[self.rank] = message
            gathered = [messages[rank] for rank in range(self.world_size)]
            for rank in self._connections:
                for item in gathered:
                    self._send(rank, item)
            return gathered
        (hub,) = self._connections
        self._send(hub, message)
        return [self._receive(hub) for _ in range(self.world_size)]

    def close(self) -> None:
        """Close the connections; workers that still wait for a message raise ``WorkerLost``."""
        self._closed.set()
        for connection in self._connections.values():
            connection.close()

    def _send(self, rank: int, message: bytes) -> None:
        try:
            send(self._connections[rank], message)
        except OSError:
            raise self._lost(rank) from None

    def _receive(self, rank: int) -> bytes:
        try:
            return receive(self._connections[rank])
        except OSError:
            raise self._lost(rank) from None

    def _lost(self, rank: int) -> WorkerLost:
        peer = f"worker {rank}" if self._is_hub else f"worker {rank} or one that it waited for"
        return WorkerLost(
            f"{peer} has gone (killed, stopped by an error, or cut off), so worker {self.rank} "
            "stops too: see that worker's messages, then continue with `resume`."
        )

    def _watch(self) -> None:
        """End the process if a peer has gone while the main thread waits for it inside MXNet."""
        ranks = {connection.fileno(): rank for rank, connection in self._connections.items()}
        poll = select.poll()
        for descriptor in ranks:
            poll.register(descriptor, select.POLLRDHUP)
        while not self._closed.is_set():
            for descriptor, _ in poll.poll(1000):
                if not self._closed.wait(GRACE_SECONDS):
                    print(f"error: {self._lost(ranks[descriptor])}", file=sys.stderr, flush=True)
                    os._exit(PEER_LOST_EXIT)


def open_hub(world_size: int, host: str) -> tuple[socket.socket, bytes]:
    """Listen on a free port of ``host``; return the socket and the token that peers must send."""
    listener = socket.create_server((host, 0), backlog=world_size)
    return listener, secrets.token_bytes(TOKEN_BYTES)


def accept_all(rank: int, world_size: int, listener: socket.socket, token: bytes) -> Channel:
    """Wait at the hub for all other workers.

    Raises
    ------
    WorkerLost
        If a worker doesn't connect in time.
    ValueError
        If two workers have the same rank.
    """
    connections: dict[int, socket.socket] = {}
    deadline = time.monotonic() + CONNECT_SECONDS
    with listener:
        while len(connections) < world_size - 1:
            listener.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                connection, _ = listener.accept()
            except OSError:
                missing = sorted(set(range(world_size)) - {rank} - set(connections))
                raise WorkerLost(
                    f"Workers {missing} did not reach worker {rank} at {listener.getsockname()} "
                    f"within {CONNECT_SECONDS:g} s: let workers reach each other on all ports."
                ) from None
            peer = _handshake(connection, token, deadline)
            if peer is None:
                connection.close()
            elif peer in connections or peer == rank or peer >= world_size:
                for opened in (connection, *connections.values()):
                    opened.close()
                raise ValueError(
                    f"Two workers have rank {peer} of {world_size}: give each a different "
                    "GLUONDENSE_WORKER, counted from 0, as the launcher does, or set it nowhere."
                )
            else:
                connections[peer] = connection
    return Channel(rank, world_size, connections, is_hub=True)


def _handshake(connection: socket.socket, token: bytes, deadline: float) -> Optional[int]:
    """Return the rank of a peer that sends the token, None for anyone else."""
    connection.settimeout(max(min(deadline - time.monotonic(), HANDSHAKE_SECONDS), 0.001))
    try:
        hello = receive(connection, limit=TOKEN_BYTES + _SIZE.size)
        connection.settimeout(None)
    except OSError:
        return None
    valid = secrets.compare_digest(hello[:TOKEN_BYTES], token)
    valid = valid and len(hello) == TOKEN_BYTES + _SIZE.size
    return _SIZE.unpack(hello[TOKEN_BYTES:])[0] if valid else None


def connect(
    rank: int, world_size: int, hub: int, address: tuple[str, int], token: bytes
) -> Channel:
    """Connect to the hub, which is worker ``hub``; raise ``WorkerLost`` if it can't be reached."""
    try:
        connection = socket.create_connection(address, timeout=CONNECT_SECONDS)
    except OSError as error:
        raise WorkerLost(
            f"Worker {rank} can't reach worker {hub} at {address[0]}:{address[1]} ({error}): "
            "let workers reach each other on all ports."
        ) from None
    connection.settimeout(None)
    send(connection, token + _SIZE.pack(rank))
    return Channel(rank, world_size, {hub: connection}, is_hub=False)


def send(connection: socket.socket, message: bytes) -> None:
    """Write one message, after its size."""
    connection.sendall(_SIZE.pack(len(message)) + message)


def receive(connection: socket.socket, limit: int = 2**40) -> bytes:
    """Read one message.

    Raises
    ------
    OSError
        If the connection ended, or the message is longer than ``limit`` bytes.
    """
    (size,) = _SIZE.unpack(_read(connection, _SIZE.size))
    if size > limit:
        raise OSError(f"a message of {size} bytes, where at most {limit} are expected")
    return bytes(_read(connection, size))


def _read(connection: socket.socket, size: int) -> bytearray:
    buffer = bytearray(size)
    view, done = memoryview(buffer), 0
    while done < size:
        received = connection.recv_into(view[done:])
        if not received:
            raise ConnectionError("the peer closed the connection")
        done += received
    return buffer
