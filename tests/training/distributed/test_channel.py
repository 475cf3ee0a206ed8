from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from gluondense.training.distributed import channel as module
from gluondense.training.distributed.channel import WorkerLost, accept_all, connect, open_hub


@pytest.fixture
def star():
    """Connect a number of workers, one of them as hub; all are closed at the end."""
    opened = []

    def make(count: int, hub: int = 0) -> list[module.Channel]:
        listener, secret = open_hub(count, "127.0.0.1")
        address = listener.getsockname()

        def join(rank: int) -> module.Channel:
            if rank == hub:
                return accept_all(rank, count, listener, secret)
            return connect(rank, count, hub, address, secret)

        with ThreadPoolExecutor(count) as pool:
            opened.extend(pool.map(join, range(count)))
        return opened[-count:]

    yield make
    for channel in opened:
        channel.close()


def together(channels, messages):
    with ThreadPoolExecutor(len(channels)) as pool:
        return list(pool.map(lambda pair: pair[0].all_gather(pair[1]), zip(channels, messages)))


@pytest.mark.parametrize(("count", "hub"), [(2, 0), (2, 1), (4, 2)])
def test_all_workers_get_all_messages_in_order(count, hub, star):
    channels = star(count, hub)
    for size in (0, 1, 3_000_000):
        messages = [bytes([rank]) * (size + rank) for rank in range(count)]
        assert together(channels, messages) == [messages] * count


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_a_lost_worker_is_reported(gone, star):
    channels = star(3)
    channels[gone].close()

    def gather(channel):
        with pytest.raises(WorkerLost, match=r"has gone .* `resume`") as error:
            channel.all_gather(b"")
        channel.close()  # as every worker that finds out does
        return str(error.value)

    others = [channel for channel in channels if channel is not channels[gone]]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(gather, others))
    if gone:
        assert found[0].startswith(f"worker {gone} has gone")


def test_a_worker_that_waits_elsewhere_exits_too(star, monkeypatch, capsys):
    ended = threading.Event()
    monkeypatch.setattr(module, "GRACE_SECONDS", 0.05)
    monkeypatch.setattr(module.os, "_exit", lambda code: ended.set())
    channels = star(2)
    channels[1].close()
    assert ended.wait(5)
    channels[0].close()
    assert "error: worker 1 has gone" in capsys.readouterr().err


def test_unauthenticated_connections_are_refused(monkeypatch):
    monkeypatch.setattr(module, "CONNECT_SECONDS", 1)
    listener, secret = open_hub(2, "127.0.0.1")
    address = listener.getsockname()
    with ThreadPoolExecutor(1) as pool:
        hub = pool.submit(accept_all, 0, 2, listener, secret)
        for words in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100):
            with socket.create_connection(address) as stranger:
                stranger.sendall(words)
        with pytest.raises(WorkerLost, match=r"Workers \[1\] did not reach worker 0"):
            hub.result()


def test_duplicate_ranks_are_refused():
    listener, secret = open_hub(3, "127.0.0.1")
    address = listener.getsockname()
    with ThreadPoolExecutor(1) as pool:
        hub = pool.submit(accept_all, 0, 3, listener, secret)
        others = [connect(1, 3, 0, address, secret) for _ in range(2)]
        with pytest.raises(ValueError, match="Two workers have rank 1 of 3"):
            hub.result()
    for other in others:
        other.close()


def test_an_unreachable_hub_is_named():
    with socket.create_server(("127.0.0.1", 0)) as unused:
        address = unused.getsockname()
    began = time.monotonic()
    with pytest.raises(WorkerLost, match=r"Worker 1 can't reach worker 0 at 127.0.0.1:\d+"):
        connect(1, 2, 0, address, b"")
    assert time.monotonic() - began < 5
