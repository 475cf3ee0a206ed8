# SPDX-License-Identifier: Apache-2.0
"""The hosts of a distributed run."""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import dataclass
from typing import Optional, Union

from ....errors import in_one_line
from ....text import read_text


@dataclass(frozen=True)
class Host:
    """A host that runs processes."""

    address: str  # IPv4 address at which the other hosts reach it
    name: Optional[str] = None  # destination for ssh; None for this host, which needs no ssh

    def __str__(self) -> str:
        return self.name or self.address


LOCALHOST = Host("127.0.0.1")


def read_hosts(path: Union[str, os.PathLike]) -> list[Host]:
    """Read a hosts file: one host a line, ``NAME`` or ``NAME ADDRESS``, with # for comments.

    ``NAME`` is the destination for ``ssh``; without ``ADDRESS`` it is also the address.

    Raises
    ------
    ValueError
        If it names no host, or one whose address can't be resolved.
    """
    hosts = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        if len(words) > 2:
            raise ValueError(
                f"{path}, line {number}: {in_one_line(repr(line))} is not NAME [ADDRESS]."
            )
        name, address = words[0], words[-1].rpartition("@")[2]
        try:
            hosts.append(Host(socket.gethostbyname(address), name))
        except (OSError, UnicodeError) as error:  # UnicodeError: not the name of a host
            raise ValueError(
                f"{path}, line {number}: {in_one_line(repr(address))} has no address ({error}): "
                "write the host's IPv4 address after its name."
            ) from None
    if not hosts:
        raise ValueError(f"{path} names no host: write one a line.")
    return hosts


def free_port(host: Host) -> int:
    """Return a TCP port for the scheduler: a free one on this host, a random one elsewhere.

    Examples
    --------
    >>> 1024 < free_port(LOCALHOST) < 65536
    True
    """
    if host.name is None:
        with socket.create_server((host.address, 0)) as listener:
            return listener.getsockname()[1]
    return 20000 + secrets.randbelow(12000)  # below the systems' ephemeral range
