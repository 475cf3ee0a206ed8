"""The machines of a distributed run."""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Union


@dataclass(frozen=True)
class Host:
    """One machine.

    Parameters
    ----------
    address
        IPv4 address at which the other machines reach it.
    name
        What ``ssh`` calls it; None is this machine, without ``ssh``.
    """

    address: str
    name: Optional[str] = None

    def __str__(self) -> str:
        return self.name or self.address


HERE = Host("127.0.0.1")


def read_hosts(path: Union[str, os.PathLike]) -> list[Host]:
    """Read a file with one host a line: its name for ``ssh`` and, if that differs, its address.

    Raises
    ------
    OSError
        If the file can't be read.
    ValueError
        If it names no host, or one whose address isn't known.
    """
    hosts = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        if len(words) > 2:
            raise ValueError(f"{path}, line {number}: {line!r} is not NAME [ADDRESS].")
        name, address = words[0], words[-1].rpartition("@")[2]
        try:
            hosts.append(Host(socket.gethostbyname(address), name))
        except OSError as error:
            raise ValueError(
                f"{path}, line {number}: {address!r} has no address ({error}): write the host's "
                "IPv4 address behind its name."
            ) from None
    if not hosts:
        raise ValueError(f"{path} names no host: write one a line.")
    return hosts


def free_port(host: Host) -> int:
    """Return a TCP port for the scheduler: free if the host is this machine, else likely so.

    Examples
    --------
    >>> 1024 < free_port(HERE) < 65536
    True
    """
    if host.name is None:
        with socket.create_server((host.address, 0)) as listener:
            return listener.getsockname()[1]
    return 20000 + secrets.randbelow(12000)  # below the range that systems deal out themselves
