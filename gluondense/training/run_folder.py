# SPDX-License-Identifier: Apache-2.0
"""The files of a run besides its checkpoints: configuration, log and best predictions."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional, Union

import numpy as np

from ..errors import check, in_one_line
from ..files import replacing, write_bytes
from ..text import read_json
from .config import TrainConfig

# Fields of the data section that the preprocessing of initial weights determines.
ADOPTED = ("mean", "std", "interpolation", "crop_ratio", "invert", "resize")
CONTENTS = (
    "config.json",
    "log.csv",
    "checkpoints",
    "answers.npz",
    "report.html",
    "events",
    "split.csv",
)


class RunFolder:
    """A folder that holds one training run; :meth:`start` creates it."""

    def __init__(self, path: Union[str, os.PathLike]) -> None:
        self.path = Path(path)
        self.last = self.path / "checkpoints" / "last"
        self.best = self.path / "checkpoints" / "best"
        self.report = self.path / "report.html"
        self.events = self.path / "events"
        self.split = self.path / "split.csv"  # only of data set folder: its images and splits

    def check_free(self) -> None:
        """Raise a FileExistsError if the folder already holds a run."""
        taken = [name for name in CONTENTS if (self.path / name).exists()]
        if taken:
            raise FileExistsError(
                f"{self.path} already holds a run ({taken[0]}): continue it with `resume`, replace "
                "it with `overwrite`, or give another `out_dir`."
            )

    def clear(self) -> None:
        """Remove the files of a run, and no others; the checkpoints last."""
        for name in (*(name for name in CONTENTS if name != "checkpoints"), "checkpoints"):
            path = self.path / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def check_continues(self, config: TrainConfig) -> None:
        """Raise a ValueError unless the folder's run has the same model, data set and task."""
        mine, wanted = self.config().flat(), config.flat()
        for name in ("model", "model_args", "pretrained", "dataset", "task"):
            before, now = mine[name], wanted[name]
            if before != now:
                raise ValueError(
                    f"{self.path} holds a run with `{name}` {before!r}, not {now!r}: "
                    "resume it as it is, or give another `out_dir`."
                )

    def adopt_preprocessing(self, config: TrainConfig) -> TrainConfig:
        """Return the configuration with the preprocessing that the run's initial weights gave it.

        It is unchanged if the run has none, or its ``mean`` is set.
        """
        if config.model.pretrained is None or config.data.mean is not None:
            return config
        before = self.config().flat()
        return config.with_fields(**{name: before[name] for name in ADOPTED})

    def start(self, config: TrainConfig) -> None:
        """Create the folder and write the configuration."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            text = json.dumps(config.to_dict(), indent=2) + "\n"
            write_bytes(self.path / "config.json", text.encode())
        except OSError as error:
            raise type(error)(
                f"Cannot write to the folder {self.path} ({error.strerror}): give another "
                "`out_dir`."
            ) from None

    def config(self) -> TrainConfig:
        """Read the configuration.

        Raises
        ------
        FileNotFoundError
            If the folder holds no run.
        ValueError
            If the file is not a configuration.
        """
        path = self.path / "config.json"
        if not path.is_file():
            raise FileNotFoundError(f"{self.path} holds no run: it has no config.json.")
        try:
            values = read_json(path)
            check("the content", type(values).__name__, "an object", isinstance(values, dict))
            return TrainConfig.from_dict(values)
        except (ValueError, TypeError) as error:
            reason = in_one_line(error, 500)
            raise ValueError(f"{path} is not a run's configuration: {reason}") from None

    def rows(self) -> list[dict[str, float]]:
        """Read the log: one row per epoch.

        Raises
        ------
        ValueError
            If the file is no table of numbers; the message names the line.
        """
        path = self.path / "log.csv"
        if not path.is_file():
            return []
        rows, reader = [], csv.DictReader(path.read_text("utf-8", "replace").splitlines())
        try:
            for row in reader:
                rows.append({key: float(value) for key, value in row.items()})
        except (ValueError, TypeError, csv.Error) as error:
            raise ValueError(
                f"{path} is damaged: line {reader.line_num} is no row of numbers "
                f"({in_one_line(error)}). Remove that line; the checkpoints are not affected."
            ) from None
        if rows and "epoch" not in rows[0]:
            raise ValueError(
                f"{path} is damaged: its first line names no column 'epoch'. Remove the file; the "
                "checkpoints are not affected."
            )
        return rows

    def keep_rows(self, epochs: int, columns: Sequence[str]) -> list[dict[str, float]]:
        """Remove log rows beyond ``epochs``, the last checkpoint's, and return the others."""
        rows = [
            {name: row.get(name, math.nan) for name in columns}
            for row in self.rows()
            if row["epoch"] <= epochs
        ]
        lines = [",".join(columns), *map(_line, rows)]
        write_bytes(self.path / "log.csv", ("\n".join(lines) + "\n").encode())
        return rows

    def append(self, row: Mapping[str, float]) -> None:
        """Add a row, whose values are in the columns' order, to the log and flush it to disk."""
        with open(self.path / "log.csv", "a", encoding="utf-8") as file:
            file.write(_line(row) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def save_predictions(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Save the arrays that the report shows of the best network's predictions."""
        with replacing(self.path / "answers.npz") as new, open(new, "wb") as file:
            np.savez_compressed(file, **arrays)

    def predictions(self) -> Optional[dict[str, np.ndarray]]:
        """Read what :meth:`save_predictions` saved, None if there is nothing."""
        path = self.path / "answers.npz"
        if not path.is_file():
            return None
        try:
            with open(path, "rb") as file, np.load(file) as arrays:
                return dict(arrays)
        except Exception as error:  # NumPy and zipfile raise any type for a damaged file
            raise ValueError(
                f"{path} is damaged ({in_one_line(error)}), so there is no report without another "
                "epoch; the checkpoints are not affected."
            ) from None


def _line(row: Mapping[str, float]) -> str:
    return ",".join(f"{value:.8g}" for value in row.values())
