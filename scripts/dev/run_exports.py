# SPDX-License-Identifier: Apache-2.0
"""Export a run to the targets, evaluate each on all test images and measure its speed.

python scripts/dev/run_exports.py runs/fast densenet40_k12_bc_cifar10.gd_c10

The result is docs/results/cards/NAME-exports.json, from which result_pages.py makes a table. The
network is that after the last epoch, as in publish_run.py.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Optional

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarking import inference
from dev import result_pages
from dev.cards import blocks

from gluondense.commands import evaluate, export
from gluondense.commands.output import call
from gluondense.commands.parser import Parser
from gluondense.environment.process import usable_cores
from gluondense.training import checkpoint

# Export target -> the backend of scripts/benchmark.py that runs its files.
BACKENDS = {
    "portable": "portable",
    "onednn": "onednn",
    "native": "native",
    "native_bf16": "native_bf16",
    "native_int8": "native_int8",
    "int8": "int8",
    "onnx": "onnxruntime",
}


def main(argv: Optional[list[str]] = None) -> int:
    """Write the file and the pages; return the exit code."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("run", type=Path, help="folder of a finished run")
    add("name", help="name of its card")
    targets: dict[str, Any] = {"nargs": "+", "choices": BACKENDS, "metavar": "TARGET"}
    add("--targets", **targets, default=[*BACKENDS], help=f"default: {' '.join(BACKENDS)}")
    add("--batch", type=int, nargs="+", default=[1, 32], metavar="N", help="default: 1 32")
    add("--threads", type=int, default=usable_cores(), help="default: the physical cores")
    add("--rounds", type=int, default=15, help="rounds of half a second of each; default: 15")
    return call(_run, parser.parse_args(argv))


def _run(args: argparse.Namespace) -> None:
    last = args.run / "checkpoints" / "last"
    accuracies = list(_evaluated(last, args.targets))
    content = _measured(last, args)
    for row in accuracies:
        row["images_per_s"] = {
            str(found["batch"]): 1000 / found["median_ms"]
            for found in content["rows"]
            if found["name"] == BACKENDS[row["target"]]
        }
    about = {key: content[key] for key in ("date", "versions", "machine", "threads")}
    facts = {**about, "images": accuracies[0]["images"], "batches": args.batch, "rows": accuracies}
    blocks.FOLDER.mkdir(parents=True, exist_ok=True)
    path = blocks.FOLDER / f"{args.name}-exports.json"
    path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    result_pages.update()
    print(f"{path}; a page shows it after <!-- exports: {args.name} -->")


def _evaluated(last: Path, targets: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Export to each target and evaluate, with the commands of a user."""
    with tempfile.TemporaryDirectory() as folder:
        for target in targets:
            place, metrics = Path(folder, target), Path(folder, f"{target}.json")
            words = [str(last), "--target", target, "--out", str(place / "net")]
            if export.main(words):
                raise ValueError(f"{last} can't be exported to {target}.")
            words = [str(place / "net"), "--data-of", str(last), "--json", str(metrics)]
            if evaluate.main(words):
                raise ValueError(f"the export to {target} can't be evaluated.")
            found = json.loads(metrics.read_text(encoding="utf-8"))
            yield {
                "target": target,
                "images": found["images"],
                "top1": found["top1"],
                "interval": found["top1_interval"],
                "bytes": sum(path.stat().st_size for path in place.iterdir()),
            }


def _measured(last: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Return the content of the inference benchmark with the backends of the targets."""
    plan = inference.Plan(
        models=[str(last)],
        set=(),
        batches=args.batch,
        sizes=(checkpoint.load(last).input_shape[-1],),
        workers=(),
        threads=args.threads,
        rounds=args.rounds,
        only=[BACKENDS[target] for target in args.targets],
        reference="portable",
        images=None,
        cache=None,
        roofline=False,
        together=False,
    )
    *_, content = inference.measure(plan)
    return content


if __name__ == "__main__":
    sys.exit(main())
