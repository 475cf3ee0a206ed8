# SPDX-License-Identifier: Apache-2.0
"""Model cards and tables of exports in Markdown, from the JSON files in ``docs/results/cards``."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from tabulate import tabulate

FOLDER = Path(__file__).parents[3] / "docs" / "results" / "cards"
Facts = dict[str, Any]

# Data set -> the images, their license and what results on them do not say.
DATA = {
    "cifar10": (
        "CIFAR-10 (Krizhevsky 2009): 50,000 training and 10,000 test images of 32×32 pixels",
        "none is stated; the images are from the web, collected for research",
        "the ten classes of small images only; no statement about photos from elsewhere",
    ),
    "imagenette": (
        "Imagenette (fastai): 10 classes of ImageNet, 9,469 training and 3,925 test images, whole "
        "images scaled to squares of 144 pixels",
        "Apache-2.0 for the selection; the images under ImageNet's terms, for non-commercial "
        "research",
        "ten classes that are easy to tell apart; the squares change the aspect ratio, and the "
        "leaderboard's images do not",
    ),
    "digits": (
        "the digits of scikit-learn: 1,797 images of 8×8 pixels",
        "CC BY 4.0",
        "a demonstration; the images are tiny",
    ),
    "fashion_mnist": (
        "Fashion-MNIST (Zalando): 60,000 training and 10,000 test images of 28×28 pixels",
        "MIT",
        "gray images of products, centered on black",
    ),
}


def facts_of(name: str) -> Facts:
    """Return the facts of a card."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def card(name: str) -> str:
    """Return a model card: a table of facts and the commands."""
    facts = facts_of(name)
    images, license_, limits = DATA[facts["data"]]
    size = "×".join(map(str, facts["input_shape"][2:]))
    rows = {
        "network": f"`{facts['model']}`: {facts['params']:,} parameters, "
        f"{facts['macs'] / 1e6:,.1f} M multiply-adds at {size}",
        "test accuracy": f"**{_percent(facts['top1'])}** "
        f"(95 %: {_percent(facts['interval'][0])} – {_percent(facts['interval'][1])}) "
        f"on {facts['images']:,} images, after the last epoch",
        "seeds": _seeds(facts),
        "published": _published(facts["published"]),
        "data": images,
        "license of the data": license_,
        "preprocessing": facts["preprocessing"],
        "recipe": _recipe(facts),
        "training": f"{facts['epoch']} epochs; {_hours(facts['cpu_s'])} of CPU time in "
        f"{_hours(facts['wall_s'])}; {_machine(facts)}; {facts['date']}",
        "weights": _weights(name, facts),
        "limits": limits,
    }
    table = tabulate([*rows.items()], ["", ""], tablefmt="pipe", disable_numparse=True)
    return f"{table}\n\n```sh\n{_commands(name, facts)}\n```"


def exports(name: str) -> str:
    """Return the table of a network's exports: accuracy of all test images, and speed."""
    facts = facts_of(f"{name}-exports")
    rows = [
        [
            f"`{row['target']}`",
            _percent(row["top1"]),
            f"{_percent(row['interval'][0])} – {_percent(row['interval'][1])}",
            f"{row['bytes'] / 1e6:.2f}",
            *(f"{row['images_per_s'][key]:,.0f}" for key in map(str, facts["batches"])),
        ]
        for row in facts["rows"]
    ]
    head = ["target", "test accuracy", "95 % interval", "files, MB"]
    head += [f"images/s, batch {batch}" for batch in facts["batches"]]
    align = ["left", *["right"] * (len(head) - 1)]
    table = tabulate(rows, head, tablefmt="pipe", colalign=align, disable_numparse=True)
    where = f"{facts['images']:,} test images; speed with {_machine(facts)}, {facts['date']}."
    return f"{table}\n\n{where}"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _hours(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{seconds / 3600:.1f} h"


def _machine(facts: Facts) -> str:
    cpu, threads = facts["machine"], facts["threads"]
    words = "1 thread" if threads == 1 else f"{threads} threads"
    return f"{words} of an {cpu['cpu']} (family {cpu['family']})"


def _seeds(facts: Facts) -> str:
    runs = [{"seed": facts["seed"], "top1": facts["top1"]}, *facts["seeds"]]
    if len(runs) == 1:
        return f"{facts['seed']}; another seed may differ by more than the interval"
    each = ", ".join(f"{run['seed']}: {_percent(run['top1'])}" for run in runs)
    values = [run["top1"] for run in runs]
    mean, deviation = statistics.fmean(values), statistics.stdev(values)
    return f"{each}; mean {_percent(mean)} ± {100 * deviation:.2f}; the first one is this network"


def _published(errors: list[Facts]) -> str:
    found = [f"{100 - error['top1']:.2f} % ({error['source']})" for error in errors]
    return "; ".join(found) or "nothing of the same network on these data"


def _recipe(facts: Facts) -> str:
    return ", ".join(f"{key} {_value(value)}" for key, value in facts["recipe"].items())


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key}={_value(item)}" for key, item in value.items())
    return "+".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def _weights(name: str, facts: Facts) -> str:
    file = facts["file"]
    where = "in the package, Apache-2.0" if file["shipped"] else "not published"
    return f"`{file['name']}`, {file['bytes']:,} bytes, {where}; SHA-256 `{file['sha256']}`"


def _commands(name: str, facts: Facts) -> str:
    """Return the commands that repeat the training, and that use the weights."""
    words = facts["command"].replace(" train folder", " train folder DATA", 1)
    words = words.replace(" train imagenet", " train imagenet --data-dir DATA", 1)
    lines = [f"OMP_NUM_THREADS={facts['threads']} {words} --out runs/{name}"]
    lines.append(f"gluondense evaluate {name if facts['file']['shipped'] else f'runs/{name}'}")
    return "\n".join(lines)
