# SPDX-License-Identifier: Apache-2.0
"""The table of an experiment: which networks are trained, how, and with which seeds."""

from __future__ import annotations

import csv
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Union

__all__ = ["COLUMNS", "PlannedRun", "check_free", "read_plan"]

COLUMNS = ("name", "seeds", "arguments")
# The experiment sets these.
RESERVED = ("--seed", "--out", "--resume", "--overwrite")


@dataclass(frozen=True)
class PlannedRun:
    """A training run of an experiment.

    Parameters
    ----------
    name
        Name of the row of the table; its runs differ in the seed only.
    seed
        Seed of the run.
    arguments
        Arguments of ``gluondense train``, without the seed and the folder.
    """

    name: str
    seed: int
    arguments: tuple[str, ...]

    @property
    def folder(self) -> str:
        """Name of the run's folder, such as ``bc-seed1``."""
        return f"{self.name}-seed{self.seed}"


def read_plan(path: Union[str, os.PathLike]) -> list[PlannedRun]:
    """Read the table of an experiment: a CSV file with a row per configuration.

    Parameters
    ----------
    path
        A file with the columns ``name``, ``seeds`` (numbers between spaces) and ``arguments`` (as
        after ``gluondense train``). Empty lines and lines that begin with # are skipped.

    Returns
    -------
    list
        The runs: the first seeds of all rows, then the second ones, so that an experiment that is
        interrupted has results of all rows.

    Raises
    ------
    ValueError
        If the table is wrong; the message names the line.
    """
    rows: list[list[PlannedRun]] = []
    for line, row in _read(Path(path)):
        try:
            runs = _parse(row)
            if any(runs[0].name == earlier[0].name for earlier in rows):
                raise ValueError(f"the name {runs[0].name!r} occurs twice")
        except ValueError as error:
            raise ValueError(f"{path}, line {line}: {error}.") from None
        rows.append(runs)
    if not rows:
        raise ValueError(f"{path} has no rows: add one of {','.join(COLUMNS)}.")
    most = max(map(len, rows))
    return [runs[number] for number in range(most) for runs in rows if number < len(runs)]


def check_free(arguments: Sequence[str]) -> None:
    """Raise a ValueError if arguments contain a flag that the experiment sets."""
    for argument in arguments:
        if argument.partition("=")[0] in RESERVED:
            raise ValueError(f"{argument} is set by the experiment: leave it out")


def _read(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the number of each row's line and its cells."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a table in UTF-8.") from None
    numbers = [n for n, line in enumerate(lines, 1) if line.strip() and line.lstrip()[0] != "#"]
    reader = csv.reader(lines[number - 1] for number in numbers)
    head = [name.strip() for name in next(reader, [])]
    if head != list(COLUMNS):
        raise ValueError(
            f"{path} has the columns {','.join(head) or 'none'}: they must be {','.join(COLUMNS)}."
        )
    for number, cells in zip(numbers[1:], reader):
        if len(cells) != len(COLUMNS):
            raise ValueError(
                f"{path}, line {number} has {len(cells)} cells, not {len(COLUMNS)}: put arguments "
                'that contain commas between quotes ".'
            )
        yield number, dict(zip(COLUMNS, map(str.strip, cells)))


def _parse(row: dict[str, str]) -> list[PlannedRun]:
    name, seeds, arguments = row["name"], row["seeds"].split(), tuple(shlex.split(row["arguments"]))
    if not re.fullmatch(r"[\w.+-]+", name) or name.startswith("."):
        raise ValueError(f"the name {name!r} is not one of letters, digits and _.+- for a folder")
    if not seeds or not all(seed.isdigit() for seed in seeds) or len({*seeds}) < len(seeds):
        raise ValueError(f"the seeds {row['seeds']!r} are not different numbers, such as 1 2 3")
    if not arguments:
        raise ValueError("there are no arguments: give those of gluondense train, such as cifar")
    check_free(arguments)
    return [PlannedRun(name, int(seed), arguments) for seed in seeds]
