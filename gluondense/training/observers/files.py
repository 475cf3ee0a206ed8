# SPDX-License-Identifier: Apache-2.0
"""The files of a run: configuration, log, checkpoints, the best predictions and the report."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from ...data.class_names import describe_difference
from ...data.datasets.folder.open import FolderImages
from ...data.datasets.folder.split_file import write_split
from ...data.detection.dataset import DetectionFiles
from ...models.network import Network
from .. import checkpoint
from ..config import TrainConfig
from ..configuration.settings import tuples
from ..report import write_report
from ..run_folder import RunFolder
from ..state import whole
from .base import Observer
from .moving_average import MovingAverage

if TYPE_CHECKING:
    from ..run import Run

SAVE_SECONDS = 300.0  # a crash within a long epoch loses at most this much work


class RunFiles(Observer):
    """Writes the run's folder, with the average of the weights if the run has one; rank 0 only."""

    def __init__(self, folder: RunFolder, average: Optional[MovingAverage] = None) -> None:
        self._folder, self._average = folder, average
        self._saved_at = time.perf_counter()

    def on_start(self, run: Run) -> None:
        """Write configuration and splits; drop rows of the log that the last checkpoint lacks."""
        self._folder.start(run.config)
        if isinstance(run.data, FolderImages) and not self._folder.split.exists():
            write_split(self._folder.split, run.data.table)
            print(f"{run.data.summary()}, see {self._folder.split}", flush=True)
        elif isinstance(run.data, DetectionFiles):
            print(run.data.summary(), flush=True)
        run.state.log = self._folder.keep_rows(run.state.epoch, run.columns)
        self._saved_at = time.perf_counter()

    def wants_save(self, run: Run) -> bool:
        """Ask for a checkpoint every ``save_steps`` steps, or every five minutes."""
        steps = run.config.runtime.save_steps
        if steps:
            return run.state.step % steps == 0
        return time.perf_counter() - self._saved_at > SAVE_SECONDS

    def on_save(self, run: Run, predictions: Any = None) -> None:
        """Write the last checkpoint; ``predictions`` are those of an epoch that has just ended."""
        self._write(run, self._folder.last, predictions)
        self._saved_at = time.perf_counter()

    def on_epoch(self, run: Run, predictions: Any, is_best: bool) -> None:
        """Append to the log; write the last checkpoint, and the best one if this is it."""
        self._folder.append(run.state.log[-1])
        if is_best:
            self._write(run, self._folder.best, predictions)
            read_images = partial(run.data.read_test_images, preprocessing=run.preprocessing)
            arrays = run.task.report_arrays(predictions, read_images)
            groups = getattr(run.data, "test_groups", None)
            if groups is not None:
                arrays["groups"] = np.unique(groups, return_inverse=True)[1]
            epoch = np.asarray(whole(run.state.log[-1]["epoch"]))
            split = np.asarray(getattr(run.data, "part", "") or "test")
            self._folder.save_predictions({**arrays, "epoch": epoch, "split": split})
        self.on_save(run, predictions)

    def on_end(self, run: Run) -> None:
        """Write the report, if an epoch is finished; a run that was stopped ends without delay."""
        if run.state.log:
            write_report(self._folder.path, explain=run.end() is not None)

    def _write(self, run: Run, place: Path, predictions: Any = None) -> None:
        keep = run.config.runtime.keep_checkpoints if place == self._folder.last else 1
        facts = describe(run)
        if predictions is not None:
            facts |= run.task.checkpoint_fields(predictions)
        checkpoint.save(place, run.net, run.trainer, facts, self._average, keep)


def describe(run: Run) -> dict[str, Any]:
    """Return the fields of a checkpoint's description that its network doesn't know."""
    info, state = run.data.info, run.state
    return {
        "class_names": info.class_names,
        "preprocessing": run.preprocessing,
        "config": run.config.to_dict(),
        **({"pretrained": run.pretrained} if run.pretrained else {}),
        "epoch": state.epoch,
        "step": state.step,
        "progress": {**state.progress(), **run.loss_scale.state(), **_images(run)},
        "metrics": state.log[-1] if state.log else {},
    }


def restore(run: Run, folder: RunFolder, average: Optional[MovingAverage] = None) -> None:
    """Load the folder's last checkpoint into a new run, which must fit it."""
    saved = checkpoint.load_newest(folder.last)
    _check_model(saved, run.net)
    _check_progress(saved, (*run.state.progress(), *run.loss_scale.state()))
    _check_classes(saved, run)
    changes = [*_changes(saved, run), *_changed_images(saved, run)]
    saved.load_parameters(run.net, run.devices)
    saved.load_states(run.trainer)
    if average is not None:
        file = saved.folder / checkpoint.AVERAGE
        average.load(file) if file.is_file() else average.restart()
    run.loss_scale.restore(saved.progress)
    run.state.restore(saved.epoch, saved.progress)
    run.pretrained = saved.pretrained
    if run.workers.is_rank_zero:
        print(", ".join((f"resuming at step {run.state.step}", *changes)), flush=True)


def _check_model(saved: checkpoint.Checkpoint, net: Network) -> None:
    """Raise a ValueError that names the first field that differs, unless the models are equal."""
    spec = {key: tuples(value) for key, value in net.spec.function_fields().items()}
    mine = {"model": net.model_name, **spec}
    # Earlier versions had fewer fields; a new one is at its default in their networks.
    defaults = {field.name: field.default for field in fields(net.spec)}
    theirs = {"model": saved.model_name, **defaults, **saved.spec}
    for name, value in mine.items():
        if theirs.get(name) != value:
            raise ValueError(
                f"{saved.folder} is a checkpoint of another model: its {name} is "
                f"{theirs.get(name)!r}, not {value!r}. Resume it as it is, or give "
                "another `out_dir`."
            )


def _check_progress(saved: checkpoint.Checkpoint, names: Iterable[str]) -> None:
    """Raise a ValueError unless a checkpoint has everything to continue with."""
    missing = [name for name in names if name not in saved.progress]
    if missing:
        raise ValueError(
            f"{saved.folder} lacks {missing[0]!r} in its progress: resume from another checkpoint."
        )


def _check_classes(saved: checkpoint.Checkpoint, run: Run) -> None:
    """Raise a ValueError unless the data's classes are those of the checkpoint's outputs."""
    difference = describe_difference(saved.class_names or (), run.data.info.class_names)
    if difference:
        raise ValueError(
            f"{saved.folder} was trained on other classes: {difference}. "
            "Resume with the same data, or give another `out_dir`."
        )


def _images(run: Run) -> dict[str, int]:
    return {"train_images": run.data.train_count, "test_images": run.data.test_count}


def _changed_images(saved: checkpoint.Checkpoint, run: Run) -> list[str]:
    """Return the changed numbers of images in words; a ValueError for one that an epoch needs."""
    changes = []
    for name, now in _images(run).items():
        before = saved.progress.get(name, now)  # earlier versions did not save it
        if saved.progress["batch"] and name == "train_images" and now != before:
            raise ValueError(
                f"the data set has {now} training images and had {before} when the epoch in "
                "progress began: resume with these, or give another `out_dir`."
            )
        if now != before:
            changes.append(f"{name.replace('_', ' ')} {now} (was {before})")
    return changes


def _changes(saved: checkpoint.Checkpoint, run: Run) -> list[str]:
    """Return the changed fields in words; raise a ValueError for one that an epoch needs."""
    before, now = TrainConfig.from_dict(saved.config).flat(), run.config.flat()
    del now["resize"]  # its default depends on the data set
    before["input_size"], now["input_size"] = saved.input_shape[2:], run.config.data.input_size
    changed = [name for name in now if now[name] != before[name]]
    for name in ("batch_size", "input_size"):
        if saved.progress["batch"] and name in changed:
            raise ValueError(
                f"`{name}` can't change from {before[name]} to {now[name]} within an epoch: "
                "resume with the old one."
            )
    return [f"{name} {now[name]} (was {before[name]})" for name in changed]
