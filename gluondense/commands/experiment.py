# SPDX-License-Identifier: Apache-2.0
"""Train the networks of a table, one after the other, and gather their results over seeds.

gluondense experiment runs.csv --out runs/ablation -- --data-dir /data/cifar10

The table is a CSV file with the columns name, seeds and arguments, such as
both,1 2 3,cifar --recipe c10+ --model csp_densenet40_k12_bc --epochs 30
The same command again continues after an interruption.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from .output import call
from .parser import Parser

if TYPE_CHECKING:
    from ..experiment.plan import PlannedRun
    from ..training.config import TrainConfig

TRAINING = ("cifar", "detection", "fashion-mnist", "folder", "imagenet")


def main(argv: Optional[list[str]] = None) -> int:
    """Train what is not trained yet, write the results; return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    cut = words.index("--") if "--" in words else len(words)
    args = _parser().parse_args(words[:cut])
    args.shared = words[cut + 1 :]
    return call(_run, args)


def _parser() -> Parser:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.usage = "gluondense experiment TABLE [--out FOLDER] [--gather] [-- ARGUMENT ...]"
    add = parser.add_argument
    add("table", metavar="TABLE", help="CSV file with the columns name, seeds and arguments")
    out = "folder of the runs and the results; default: runs/ and the table's name"
    add("--out", type=Path, metavar="FOLDER", help=out)
    add("--gather", action="store_true", help="train nothing, only write the results")
    parser.epilog = "Arguments after -- are added to those of each run."
    return parser


def _run(args: argparse.Namespace) -> int:
    from ..experiment.plan import check_free, read_plan
    from ..experiment.results import check_unchanged, is_complete
    from ..experiment.runner import train

    runs = read_plan(args.table)
    folder = args.out or Path("runs") / Path(args.table).stem
    check_free(args.shared)
    for run in runs:
        config = _configure(run, args.shared, args.table)
        if not args.gather:
            check_unchanged(run, config, folder)
    failed = []
    for number, run in enumerate([] if args.gather else runs, start=1):
        if is_complete(run, folder):
            continue
        print(f"run {number} of {len(runs)}: {run.name}, seed {run.seed}", flush=True)
        code = train(run, args.shared, folder)
        _gather(args.table, runs, folder)
        if code > 128:  # a signal
            print("stopped; the same command continues", file=sys.stderr)
            return code
        if code:
            failed.append(run.folder)
    _gather(args.table, runs, folder)
    print(f"results: {folder / 'results.html'} and {folder / 'results.csv'}")
    if failed:
        raise ValueError(f"{len(failed)} of {len(runs)} runs failed: {', '.join(failed)}.")
    return 0


def _configure(run: PlannedRun, shared: Sequence[str], table: str) -> TrainConfig:
    """Return the configuration of a run; raise a ValueError if its arguments make none."""
    from ..errors import check_known

    command, *rest = run.arguments
    check_known("training command", command, TRAINING)
    module = importlib.import_module(f"gluondense.commands.train.{command.replace('-', '_')}")
    parser = module.make_parser()
    refusal = io.StringIO()
    try:
        with contextlib.redirect_stderr(refusal):
            return module.make_config(parser.parse_args([*rest, *shared]))[0]
    except (ValueError, SystemExit) as error:
        said = refusal.getvalue().removeprefix("error: ").strip()
        raise ValueError(
            f"{table}, row {run.name}: {parser.with_flags(said or str(error))}"
        ) from None


def _gather(table: str, runs: Sequence[PlannedRun], folder: Path) -> None:
    """Write the results of the complete runs."""
    from ..experiment.page import write_page
    from ..experiment.results import read_groups, write_csv

    groups = read_groups(runs, folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(groups, folder / "results.csv")
    write_page(Path(table).stem, groups, len(runs), folder / "results.html")
