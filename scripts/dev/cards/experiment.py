# SPDX-License-Identifier: Apache-2.0
"""The tables of experiments in ``docs/results/cifar10``, CSV files of `gluondense experiment`."""

from __future__ import annotations

import csv
import shlex
import statistics
from dataclasses import dataclass, field
from pathlib import Path

from tabulate import tabulate

from .. import results

FOLDER = Path(__file__).parents[3] / "docs" / "results" / "cifar10"
# Rows of the table -> how the page calls them.
TITLES = {
    "dense": "DenseNet",
    "last": "last",
    "first": "first",
    "both": "both",
    "last-0.25": "last, γ = 0.25",
    "last-0.75": "last, γ = 0.75",
}
BENCHMARK = "amx/cifar10-csp"  # of docs/results/benchmarks


@dataclass
class Network:
    """A row of an experiment, with the results of its seeds.

    Parameters
    ----------
    name
        Its name in the table of runs.
    model
        Its name for scripts/benchmark.py, such as ``densenet121:growth_rate=24``.
    params, macs
        Its cost.
    values
        The result of each seed, in percent.
    cpu_s
        The CPU time of each seed's training, in seconds.
    """

    name: str
    model: str
    params: int
    macs: int
    values: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)

    @property
    def title(self) -> str:
        """How the page calls it."""
        return TITLES[self.name]


def read(name: str) -> list[Network]:
    """Return the networks of an experiment, the one with most multiply-adds first."""
    found: dict[str, Network] = {}
    with (FOLDER / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            words = shlex.split(row["arguments"])
            fields = words[words.index("--set") + 1 :][:1] if "--set" in words else []
            model = ":".join([row["model"], *fields])
            network = Network(row["name"], model, int(row["params"]), int(row["macs"]))
            network = found.setdefault(row["name"], network)
            network.values.append(100 * float(row["value"]))
            network.cpu_s.append(float(row["training_cpu_s"]))
    return sorted(found.values(), key=lambda network: -network.macs)


def experiment(name: str) -> str:
    """Return the table of an experiment, with the inference times of its benchmark."""
    times = {row["model"]: row["median_ms"] for row in results.content(BENCHMARK)["rows"]}
    rows = [
        [
            network.title,
            f"{network.params:,}",
            f"{network.macs / 1e6:.1f} M",
            f"{statistics.mean(network.cpu_s) / 60:.1f}",
            f"{times[network.model]:.2f}",
            f"{statistics.mean(network.values):.2f} %",
            f"{min(network.values):.2f} – {max(network.values):.2f}",
        ]
        for network in read(name)
    ]
    costs = ["parameters", "multiply-adds", "training, min", "inference, ms"]
    head = ["form", *costs, "test accuracy, mean", "of seeds"]
    align = ["left"] + ["right"] * 6
    return tabulate(rows, head, tablefmt="pipe", disable_numparse=True, colalign=align)
