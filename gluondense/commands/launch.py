"""Start the workers, servers and scheduler of a distributed run, on one or several machines."""

from __future__ import annotations

import argparse
import sys
from typing import Optional

from ..training.distributed.launcher import LOCALHOST, Job, read_hosts
from ..training.distributed.launcher.member import SSH
from .arguments import Parser, call


def main(argv: Optional[list[str]] = None) -> int:
    """Start all processes, wait for them; return the run's exit code."""
    argv = sys.argv[1:] if argv is None else argv
    at = argv.index("--") if "--" in argv else len(argv)
    args = _parser().parse_args(argv[:at])
    args.command = argv[at + 1 :]
    return call(_run, args)


def _run(args: argparse.Namespace) -> int:
    job = Job(
        command=args.command,
        workers=args.workers,
        servers=args.servers,
        hosts=read_hosts(args.hosts) if args.hosts else (LOCALHOST,),
        port=args.port,
        ssh=args.ssh,
        gpus_per_worker=args.gpus_per_worker,
        env=args.env,
    )
    return job.run()


def _parser() -> Parser:
    parser = Parser(
        description=__doc__,
        usage="%(prog)s -n WORKERS [options] -- gluondense train … --kvstore dist_sync …",
    )
    parser.add_argument("-n", "--workers", type=int, required=True, help="number of workers")
    parser.add_argument(
        "-s", "--servers", type=int, default=1, help="number of servers; default: 1"
    )
    parser.add_argument(
        "--hosts",
        metavar="FILE",
        help="a host per line: its name for ssh and, if different, its address; default: all here",
    )
    parser.add_argument("--port", type=int, help="port of the scheduler, on the first host")
    parser.add_argument("--ssh", default=SSH, metavar="COMMAND", help=f"default: {SSH}")
    parser.add_argument(
        "--gpus-per-worker",
        type=int,
        metavar="N",
        help="each worker sees N GPUs of its host, as 0 to N-1; default: all",
    )
    parser.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="NAME",
        help="environment variable to pass to other hosts; may be repeated",
    )
    return parser
