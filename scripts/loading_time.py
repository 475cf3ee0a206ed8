"""Compare load_weights with torch.load and load_state_dict, each sample in a new process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Callable, Optional

from benchmarking.workers import torch_peer

import gluondense
from gluondense.commands.arguments import Parser

# The measured operations, with the file in the page cache, all imports done and the network built.
OPERATIONS = {
    "torch": "torch.load and load_state_dict",
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
    samples: dict[str, list[list[float]]] = {operation: [] for operation in OPERATIONS}
    for _ in range(args.samples):
        for operation, rows in samples.items():
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
            rows.append(json.loads(done.stdout))
    _print(samples)
    return 0


def _sample(operation: str, path: Path, model: str) -> tuple[float, float, float]:
    """Run an operation once; return wall and CPU time in ms, and peak memory over file size."""
    run = _operation(operation, path, model)
    size = len(path.read_bytes())  # also fills the page cache
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, the peak of VmRSS
    before = _memory("VmRSS")
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    times = 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)
    return *times, (_memory("VmHWM") - before) / size


def _operation(operation: str, path: Path, model: str) -> Callable[[], object]:
    if operation == "torch":
        import torch

        peer = torch_peer.build(model)
        return lambda: peer.load_state_dict(torch.load(path))

    import mxnet as mx  # after gluondense, which sets its threads

    net = gluondense.get_model(model)
    if operation == "initialized":
        net.initialize()
        mx.nd.waitall()

    def load() -> None:
        gluondense.load_weights(net, path)
        mx.nd.waitall()

    return load


def _memory(field: str) -> int:
    """Return a field of this process's status in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def _print(samples: dict[str, list[list[float]]]) -> None:
    print("| operation | wall ms (minimum) | CPU ms (minimum) | wall / torch | memory / file |")
    print("|---|---|---|---|---|")
    base = median(row[0] for row in samples["torch"])
    for operation, rows in samples.items():
        walls, cpus, memories = zip(*rows)
        wall, cpu = median(walls), median(cpus)
        print(
            f"| {OPERATIONS[operation]} | {wall:.1f} ({min(walls):.1f}) "
            f"| {cpu:.1f} ({min(cpus):.1f}) | {wall / base:.2f} | {max(memories):.2f} |"
        )


def _parser() -> Parser:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("file", type=Path, help=".pth or .pt of torchvision or timm")
    add("--model", default="densenet121", help="name from gluondense.list_models()")
    add("--samples", type=int, default=11, help="samples of each operation; default: %(default)s")
    add("--sample", choices=OPERATIONS, help="print one sample, in this process")
    return parser


if __name__ == "__main__":
    sys.exit(main())
