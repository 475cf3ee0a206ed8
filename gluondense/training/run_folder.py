"""The files of a run besides its checkpoints: configuration, log, the best net's answers."""

from __future__ import annotations

import csv
import json
import math
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Callable, Optional, Union

import numpy as np

from ..analysis.predictions import Predictions
from .config import TrainConfig

COLUMNS = (
    "epoch",
    "step",
    "lr",
    "train_loss",
    "train_acc",
    "test_acc",
    "test_loss",
    "images_per_s",
    "epoch_s",
    "wall_s",
    "cpu_s",
    "test_top5",
)
OWN = ("config.json", "log.csv", "checkpoints", "answers.npz", "report.html", "events")
PICTURES = 24  # of each kind in the report


@dataclass(frozen=True)
class SavedPredictions:
    """What a network says about the test set.

    Parameters
    ----------
    evaluation
        Its answers to all images.
    epoch
        After which epoch.
    first_images
        The first images of the test set, uint8 (n, H, W, C).
    worst, worst_images
        Numbers of the worst mistakes in the test set, and these images.
    """

    evaluation: Predictions
    epoch: int
    first_images: np.ndarray
    worst: np.ndarray
    worst_images: np.ndarray


class RunFolder:
    """A folder that holds one training run.

    Parameters
    ----------
    path
        Where it lies; made by :meth:`start`.
    """

    def __init__(self, path: Union[str, os.PathLike]) -> None:
        self.path = Path(path)
        self.last = self.path / "checkpoints" / "last"
        self.best = self.path / "checkpoints" / "best"
        self.report = self.path / "report.html"
        self.events = self.path / "events"

    def check_free(self) -> None:
        """Make sure that a new run may be written here.

        Raises
        ------
        FileExistsError
            If another run lies here.
        """
        taken = [name for name in OWN if (self.path / name).exists()]
        if taken:
            raise FileExistsError(
                f"{self.path} already holds a run ({taken[0]}), which is never overwritten: "
                "continue it with --resume, or give another --out."
            )

    def check_continues(self, config: TrainConfig) -> None:
        """Make sure that the run that lies here has the same model and data.

        Raises
        ------
        FileNotFoundError
            If there is no run.
        ValueError
            If it is another one.
        """
        mine = self.config()
        for name in ("model", "model_args", "dataset"):
            before, now = getattr(mine, name), getattr(config, name)
            if before != now:
                raise ValueError(
                    f"{self.path} holds a run with `{name}` {before!r}, not {now!r}: "
                    "resume it as it is, or give another --out."
                )

    def start(self, config: TrainConfig) -> None:
        """Make the folder and write the configuration.

        Raises
        ------
        OSError
            If the folder can't be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            text = json.dumps(config.to_dict(), indent=2) + "\n"
            replace_file(self.path / "config.json", text.encode())
        except OSError as error:
            raise type(error)(
                f"Cannot write to the folder {self.path} ({error.strerror}): give another --out."
            ) from None

    def config(self) -> TrainConfig:
        """Read the configuration of the run that lies here.

        Raises
        ------
        FileNotFoundError
            If there is none.
        ValueError
            If it can't be read.
        """
        path = self.path / "config.json"
        if not path.is_file():
            raise FileNotFoundError(f"{self.path} holds no run: it has no config.json.")
        try:
            return TrainConfig.from_dict(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path} is not a run's configuration: {error}") from None

    def rows(self) -> list[dict[str, float]]:
        """Read the log, a row an epoch."""
        path = self.path / "log.csv"
        if not path.is_file():
            return []
        with open(path, newline="", encoding="utf-8") as file:
            return [
                {key: float(value) for key, value in row.items()} for row in csv.DictReader(file)
            ]

    def keep_rows(self, epochs: int) -> list[dict[str, float]]:
        """Drop rows of epochs that the last checkpoint doesn't include; return the others."""
        rows = [row for row in self.rows() if row["epoch"] <= epochs]
        lines = [",".join(COLUMNS)] + [_line(row) for row in rows]
        replace_file(self.path / "log.csv", ("\n".join(lines) + "\n").encode())
        return rows

    def append(self, row: dict[str, float]) -> None:
        """Add a row to the log and hand it to the disk."""
        with open(self.path / "log.csv", "a", encoding="utf-8") as file:
            file.write(_line(row) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def save_predictions(
        self, evaluation: Predictions, epoch: int, pictures: Callable[[np.ndarray], np.ndarray]
    ) -> None:
        """Keep what the report shows of the best network: all its answers, and some images.

        Parameters
        ----------
        evaluation
            The answers.
        epoch
            After which epoch.
        pictures
            From numbers of test images to the images, uint8 (n, H, W, C).
        """
        worst = evaluation.misclassified()[:PICTURES]
        first = np.arange(min(PICTURES, len(evaluation.labels)))
        new = self.path / "answers.npz.new"
        with open(new, "wb") as file:
            np.savez_compressed(
                file,
                **asdict(evaluation),
                epoch=epoch,
                first_images=pictures(first),
                worst=worst,
                worst_images=pictures(worst),
            )
        os.replace(new, self.path / "answers.npz")

    def predictions(self) -> Optional[SavedPredictions]:
        """Read what ``save_predictions`` kept; None if there is nothing."""
        path = self.path / "answers.npz"
        if not path.is_file():
            return None
        with np.load(path) as arrays:
            return SavedPredictions(
                Predictions(**{field.name: arrays[field.name] for field in fields(Predictions)}),
                int(arrays["epoch"]),
                arrays["first_images"],
                arrays["worst"],
                arrays["worst_images"],
            )


def replace_file(path: Path, data: bytes) -> None:
    """Write a file beside ``path`` and rename it: readers see the old or the new one whole."""
    new = path.with_name(path.name + ".new")
    new.write_bytes(data)
    os.replace(new, path)


def _line(row: dict[str, Any]) -> str:
    return ",".join(f"{row.get(name, math.nan):.8g}" for name in COLUMNS)
