"""Measure loading a weights file beside reading its bytes, each sample in a new process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Optional

import gluondense
from gluondense.commands.arguments import Parser

# The timed operations, with the file in the page cache and all imports done.
OPERATIONS = {
    "read": "open(path, 'rb').read()",
    "new": "load_weights, network not initialized",
    "initialized": "load_weights, network initialized",
}


def main(argv: Optional[list[str]] = None) -> int:
    """Measure, print a table; return the exit code."""
    args = _parser().parse_args(argv)
    if args.sample:
        print(json.dumps(_sample(args.sample, args.file, args.model)))
        return 0
    if not args.file.is_file():
        print(f"error: no weights file {args.file}; check the path", file=sys.stderr)
        return 2
    args.file.read_bytes()  # into the page cache
    samples: dict[str, list[list[float]]] = {operation: [] for operation in OPERATIONS}
    for _ in range(args.samples):
        for operation, times in samples.items():
            command = [__file__, args.file, "--model", args.model, "--sample", operation]
            done = subprocess.run(
                [sys.executable, *command],
                capture_output=True,
                text=True,
                env={"OMP_NUM_THREADS": "1", **os.environ},
            )
            if done.returncode:
                print(f"error: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
                return 2
            times.append(json.loads(done.stdout))
    _print(samples)
    return 0


def _sample(operation: str, path: Path, model: str) -> tuple[float, float]:
    """Run an operation once; return wall and CPU time in ms."""
    import mxnet as mx  # after gluondense, which sets its threads

    net = None if operation == "read" else gluondense.get_model(model)
    if net is not None and operation == "initialized":
        net.initialize()
    mx.nd.waitall()
    wall, cpu = time.perf_counter(), time.process_time()
    if net is None:
        path.read_bytes()
    else:
        gluondense.load_weights(net, path)
        mx.nd.waitall()
    return 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)


def _print(samples: dict[str, list[list[float]]]) -> None:
    print("| operation | wall ms (minimum) | CPU ms (minimum) | wall / read | CPU / read |")
    print("|---|---|---|---|---|")
    base = [median(times) for times in zip(*samples["read"])]
    for operation, times in samples.items():
        walls, cpus = zip(*times)
        wall, cpu = median(walls), median(cpus)
        print(
            f"| {OPERATIONS[operation]} | {wall:.1f} ({min(walls):.1f}) "
            f"| {cpu:.1f} ({min(cpus):.1f}) | {wall / base[0]:.2f} | {cpu / base[1]:.2f} |"
        )


def _parser() -> Parser:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("file", type=Path, help=".params, .safetensors, .pth or .pt")
    add("--model", default="densenet121", help="name from gluondense.list_models()")
    add("--samples", type=int, default=15, help="samples of each operation; default: %(default)s")
    add("--sample", choices=OPERATIONS, help="print one sample, in this process: [wall, CPU] in ms")
    return parser


if __name__ == "__main__":
    sys.exit(main())
