# SPDX-License-Identifier: Apache-2.0
"""The commands that are disturbed, and what of their results must be equal to the byte."""

from __future__ import annotations

import csv
import hashlib
import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

from support.images import make_folders

FIELDS = {
    "stem": "cifar",
    "num_init_features": 8,
    "growth_rate": 8,
    "block_config": [1, 1],
    "bn_size": 0,
    "dropout": 0.2,
}
SET = [f"--set={name}={json.dumps(value)}" for name, value in FIELDS.items()]
TRAIN = [
    *("train", "fashion-mnist", "--dataset=synthetic", "--model=densenet121", *SET),
    *("--resize=8", "--epochs=2", "--batch-size=24", "--schedule=constant", "--lr=0.05"),
    *("--save-steps=3", "--no-progress", "--no-native"),
]


@dataclass(frozen=True)
class Command:
    """A command with ``{out}`` for its folder, ``{in}`` for the inputs and ``{url}`` of a file.

    ``before`` is the same command for an earlier, different result that this one replaces.
    """

    name: str
    argv: tuple[str, ...]
    before: tuple[str, ...] = ()

    def words(self, argv: tuple[str, ...], inputs: Path, out: Path) -> list[str]:
        values = {"{out}": out, "{in}": inputs, "{url}": (inputs / "url").read_text()}
        for name, value in values.items():
            argv = tuple(word.replace(name, str(value)) for word in argv)
        return list(argv)


def convert(suffix: str) -> Command:
    rest = (f"{{out}}/net.{suffix}", "--model=densenet121", *SET, "--set=classes=5")
    argv = ("convert", "{in}/net.params", *rest)
    return Command(f"convert to {suffix}", argv, ("convert", "{in}/old.params", *rest))


def archive(suffix: str) -> Command:
    argv = ("archive", "{in}/exports/new", f"{{out}}/net.{suffix}")
    return Command(f"archive {suffix}", argv, ("archive", "{in}/exports/old", argv[-1]))


def export(target: str, *more: str) -> Command:
    argv = ("export", "{in}/run", "--out={out}/net", f"--target={target}", *more)
    return Command(f"export {target}", argv, (*argv, "--output=probabilities"))


COMMANDS = (
    export("portable"),
    export("onnx"),
    export("native"),
    export("native_int8", "--calibration-images=8", "--max-changed=1"),
    convert("params"),
    convert("safetensors"),
    archive("mar"),
    archive("tar.gz"),
    archive("zip"),
)
RECORDS = Command(
    "make-recordio", ("make-recordio", "{out}/a", "{in}/images", "-j1", "--no-progress")
)
COMPILE = Command("compile", ("compile", "{out}", "{in}/c++"))
EVALUATE = Command("evaluate", ("evaluate", "{in}/run"))
PREDICT = Command("predict", ("predict", "{in}/exports/new", "{in}/images/class0/0.jpg"))
TRAINING = Command("train", (*TRAIN, "--out={out}/run"))
CONTENT = random.Random(1).randbytes(1_000_003)
DOWNLOAD = Command(
    "download", ("download", "{url}", "{out}/file", hashlib.sha256(CONTENT).hexdigest())
)


def prepare(worker, folder: Path) -> Path:
    """Make the inputs of all commands: two runs, exports and weights, and a folder of images."""
    for name, seed in (("run", 1), ("old", 2)):
        done = worker.run([*TRAIN, f"--seed={seed}", f"--out={folder / name}"], folder)
        assert done.code == 0, done.stderr
        done = worker.run(["export", folder / name, f"--out={folder / 'exports' / name}"], folder)
        assert done.code == 0, done.stderr
        weights = folder / name / "checkpoints" / "best" / "model.params"
        (folder / f"{'net' if name == 'run' else 'old'}.params").write_bytes(weights.read_bytes())
    for path in (folder / "exports").glob("run*"):
        path.rename(path.with_name(path.name.replace("run", "new", 1)))
    make_folders(folder / "images", each=5, size=(12, 16))
    (folder / "images" / "class1" / "bad.jpg").write_bytes(b"no image")
    return folder


# It takes the time of its sleep for each file, and "links" the library that it is given.
COMPILER = """#!/bin/sh
for output; do :; done
case "$*" in *-shared*) exec cp {library} "$output" ;; esac
sleep 0.02
echo object >"$output"
"""


def write_compiler(path: Path, library: Path) -> None:
    """Write a C++ compiler that compiles nothing."""
    path.write_text(COMPILER.format(library=library))
    path.chmod(0o755)


def results(folder: Path) -> dict[str, str]:
    """Return the checksum of each file of a command's results; hidden leftovers are none."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not name.startswith(".") and "/." not in name:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def run_results(run: Path) -> dict[str, object]:
    """Return what a run must reproduce: parameters, states, and the log without its times."""
    found: dict[str, object] = {}
    for place in ("last", "best"):
        folder = run / "checkpoints" / place
        for name in ("model.params", "trainer.states"):
            found[f"{place}/{name}"] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    with open(run / "log.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found[f"row {row['epoch']}"] = {
                key: value
                for key, value in row.items()
                if key in {"epoch", "step", "lr"} or key.endswith(("_loss", "_acc"))
            }
    assert (run / "report.html").stat().st_size > 10_000
    return found


def resume_or_start(argv: list[str], run: Path) -> list[str]:
    """Return the command that goes on with a training; it starts if there is no run yet."""
    if (run / "config.json").exists():
        return ["train", "fashion-mnist", "--resume", str(run), "--no-progress"]
    return argv


def again(tmp_path: Path, out: Path) -> None:
    """Put back the files before the command."""
    shutil.rmtree(out)
    if (tmp_path / "before").exists():
        shutil.copytree(tmp_path / "before", out)
    else:
        out.mkdir()
