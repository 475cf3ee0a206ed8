"""Start the workers, servers and scheduler of a distributed run, here or on many machines."""

from __future__ import annotations

import sys
from typing import Optional

from ..training.distributed.launcher import HERE, Job, read_hosts
from ..training.distributed.launcher.member import SSH
from .arguments import Parser


def main(argv: Optional[list[str]] = None) -> int:
    """Parse, run all, return the run's exit code."""
    argv = sys.argv[1:] if argv is None else argv
    at = argv.index("--") if "--" in argv else len(argv)
    own, command = argv[:at], argv[at + 1 :]
    args = _parser().parse_args(own)
    try:
        job = Job(
            command=command,
            workers=args.workers,
            servers=args.servers,
            hosts=read_hosts(args.hosts) if args.hosts else (HERE,),
            port=args.port,
            ssh=args.ssh,
            gpus_per_worker=args.gpus_per_worker,
            pass_on=args.env,
        )
        return job.run()
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> Parser:
    parser = Parser(
        description=__doc__,
        usage="launch.py -n WORKERS [options] -- python scripts/train_….py --kvstore dist_sync …",
    )
    parser.add_argument("-n", "--workers", type=int, required=True)
    parser.add_argument("-s", "--servers", type=int, default=1, help="default: 1")
    parser.add_argument(
        "--hosts",
        metavar="FILE",
        help="a host a line: its name for ssh and, if that differs, its address; default: all here",
    )
    parser.add_argument("--port", type=int, help="the scheduler's, on the first host")
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
        help="a variable that processes on other hosts get too; may be repeated",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
