# SPDX-License-Identifier: Apache-2.0
"""Start the workers, servers and scheduler of a distributed run, on one or several machines."""

from __future__ import annotations

import argparse
import sys
from typing import Optional

from ..training.distributed.launcher.hosts import LOCALHOST, read_hosts
from ..training.distributed.launcher.job import Job
from ..training.distributed.launcher.member import SSH
from .output import call
from .parser import Parser


def main(argv: Optional[list[str]] = None) -> int:
    """Start all processes, wait for them; return the run's exit code."""
    argv = sys.argv[1:] if argv is None else argv
    at = argv.index("--") if "--" in argv else len(argv)
    args = _parser().parse_args(argv[:at])
    args.command = argv[at + 1 :]
    return call(_run, args)


def _run(args: argparse.Namespace) -> int:
    options = {**vars(args), "hosts": read_hosts(args.hosts) if args.hosts else (LOCALHOST,)}
    return Job(**options).run()


def _parser() -> Parser:
    parser = Parser(
        description=__doc__,
        usage="%(prog)s -n WORKERS [options] -- gluondense train … --kvstore dist_sync …",
    )
    add = parser.add_argument
    add("-n", "--workers", type=int, required=True, help="number of workers")
    add("-s", "--servers", type=int, default=1, help="number of servers; default: 1")
    hosts = "a host per line: name for ssh and, if different, address; default: this machine"
    add("--hosts", metavar="FILE", help=hosts)
    add("--port", type=int, help="port of the scheduler, on the first host")
    add("--ssh", default=SSH, metavar="COMMAND", help=f"default: {SSH}")
    gpus = "each worker sees N GPUs of its host, as 0 to N-1; default: all"
    add("--gpus-per-worker", type=int, metavar="N", help=gpus)
    env = "environment variable to pass to other hosts; may be repeated"
    add("--env", action="append", default=[], metavar="NAME", help=env)
    return parser
