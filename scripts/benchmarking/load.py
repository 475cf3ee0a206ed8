"""Clients that put a server under load, and their measurements."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import threading
import time
from collections.abc import Sequence

import numpy as np

from .servers import TIMEOUT_SECONDS, read_response


@dataclasses.dataclass(frozen=True)
class Load:
    """The measurements of the clients.

    Parameters
    ----------
    seconds
        Duration.
    latencies
        Seconds of each successful request.
    failures
        Descriptions of the failed requests.
    """

    seconds: float
    latencies: tuple[float, ...]
    failures: tuple[str, ...]

    @property
    def rate(self) -> float:
        """Successful requests per second."""
        return len(self.latencies) / self.seconds

    def percentile(self, percent: float) -> float:
        """Return a percentile of the latency in ms."""
        return 1000 * float(np.percentile(self.latencies, percent))


def put_under_load(
    address: str, path: str, images: Sequence[bytes], clients: int, seconds: float
) -> Load:
    """Send requests from several clients, each as soon as its previous one is answered.

    Parameters
    ----------
    address, path
        Target of the ``POST`` requests.
    images
        Encoded images; each client starts at another one.
    clients
        Number of concurrent clients, with one connection each.
    seconds
        Duration.
    """
    latencies: list[float] = []
    failures: list[str] = []
    start = time.perf_counter()

    def work(first: int) -> None:
        with contextlib.closing(
            http.client.HTTPConnection(address, timeout=TIMEOUT_SECONDS)
        ) as connection:
            index = first
            while (begin := time.perf_counter()) - start < seconds:
                try:
                    connection.request("POST", path, images[index % len(images)])
                    response = read_response(connection)
                except (OSError, http.client.HTTPException) as error:
                    failures.append(repr(error))
                    connection.close()
                else:
                    if response.status == 200:
                        latencies.append(time.perf_counter() - begin)
                    else:
                        failures.append(f"{response.status} {response.body[:200]!r}")
                index += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Load(time.perf_counter() - start, tuple(latencies), tuple(failures))
