# SPDX-License-Identifier: Apache-2.0
"""Clients that put a server under load, and their measurements."""

from __future__ import annotations

import dataclasses
import http.client
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from .servers import connect, read_response


@dataclasses.dataclass
class Load:
    """The measurements of the clients.

    Parameters
    ----------
    seconds
        Duration.
    latencies, failures
        Seconds of each successful request, and descriptions of the failed ones.
    """

    seconds: float = 0.0
    latencies: list[float] = dataclasses.field(default_factory=list)
    failures: list[str] = dataclasses.field(default_factory=list)

    @classmethod
    def total(cls, loads: Iterable[Load]) -> Load:
        """Join the measurements of several periods."""
        total = cls()
        for load in loads:
            total.seconds += load.seconds
            total.latencies += load.latencies
            total.failures += load.failures
        return total

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
    clients, seconds
        Number of concurrent clients, with one connection each, and duration.
    """
    load, start = Load(), time.perf_counter()

    def work(index: int) -> None:
        with connect(address) as connection:
            while (begin := time.perf_counter()) - start < seconds:
                try:
                    connection.request("POST", path, images[index % len(images)])
                    response = read_response(connection)
                except (OSError, http.client.HTTPException) as error:
                    load.failures.append(repr(error))
                    connection.close()
                else:
                    if response.status == 200:
                        load.latencies.append(time.perf_counter() - begin)
                    else:
                        load.failures.append(f"{response.status} {response.body[:200]!r}")
                index += 1

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(work, range(clients)))
    load.seconds = time.perf_counter() - start
    return load
