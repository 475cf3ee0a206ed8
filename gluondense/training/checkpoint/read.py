# SPDX-License-Identifier: Apache-2.0
"""Checkpoints are found, read and verified."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Optional, Union

from ...data.preprocessing import Preprocessing
from ...errors import check, in_one_line
from ...files import json_sha256, previous, sha256
from ...text import read_json
from ..config import TrainConfig
from ..configuration.settings import tuples
from ..run_preprocessing import earlier_preprocessing
from .description import Checkpoint
from .schema import DERIVED, FORMAT, MODEL, check_description


def load(folder: Union[str, os.PathLike]) -> Checkpoint:
    """Read a checkpoint's description and verify its files.

    Parameters
    ----------
    folder
        A checkpoint's folder, or a run's folder for its best checkpoint, else its last.

    Raises
    ------
    FileNotFoundError
        If there is no checkpoint, or one of its files is missing.
    ValueError
        If a file is damaged or has a newer format.
    """
    place = find(folder)
    if place is None:
        raise FileNotFoundError(
            f"{folder} holds no checkpoint: there is no {MODEL} in it or below it."
        )
    try:
        facts = read_json(place / MODEL)
        described = isinstance(facts, dict) and "format" in facts
        check("the content", type(facts).__name__, "an object with a format", described)
        written = facts.get("format")
        known = written in (1, FORMAT)
        checkpoint, sums = _parse(place, facts, written) if known else (None, {})
    except ValueError as error:
        reason = in_one_line(error).rstrip(".")
        raise ValueError(f"{place / MODEL} is not a checkpoint's description: {reason}.") from None
    if checkpoint is None:
        raise ValueError(
            f"{place} has format {in_one_line(written)}, this gluondense reads 1 to {FORMAT}: "
            "update gluondense."
        )
    for name, expected in sums.items():
        _verify(place / name, expected)
    return checkpoint


def _parse(place: Path, facts: dict[str, Any], written: int) -> tuple[Checkpoint, dict[str, str]]:
    """Return the description in a file of a known format, and the files' checksums."""
    expected = facts.pop("content_sha256", None)  # earlier versions wrote none
    if expected is not None and json_sha256(facts) != expected:
        raise ValueError("its content is not that of its content_sha256: it is damaged")
    facts = {key: value for key, value in facts.items() if key != "format"}
    check_description(facts, written)
    TrainConfig.from_dict(facts["config"])  # checks its fields
    sums, name = facts.pop("sha256"), facts.pop("model")
    if written == 1:
        preprocessing = earlier_preprocessing(facts)
    else:
        preprocessing = Preprocessing.from_dict(facts.pop("preprocessing"))
    for derived in DERIVED:
        facts.pop(derived)
    values = {key: tuples(value) for key, value in facts.items()}
    values["spec"] = {key: tuples(value) for key, value in facts["spec"].items()}
    return Checkpoint(place, name, preprocessing=preprocessing, **values), sums


def load_newest(last: Path) -> Checkpoint:
    """Read the checkpoint at ``last``, or with a warning on stderr the newest intact one beside it.

    Raises
    ------
    FileNotFoundError, ValueError
        If no checkpoint is intact; the message is about the one at ``last``.
    """
    try:
        return load(last)
    except (FileNotFoundError, ValueError) as error:
        first = error
    steps = sorted(last.parent.glob("step-*"), reverse=True)
    for place in (previous(last), *steps, last.with_name("best")):
        try:
            found = load(place)
        except (FileNotFoundError, ValueError):
            continue
        warning = f"warning: {first}\nwarning: continuing from {place}, step {found.step}."
        print(warning, file=sys.stderr)
        return found
    raise first


def find(folder: Union[str, os.PathLike]) -> Optional[Path]:
    """Return the checkpoint in a run's or a checkpoint's folder, None if there is none."""
    folder = Path(folder)
    for place in (folder, folder / "checkpoints" / "best", folder / "checkpoints" / "last"):
        # Between the two renames of replacing_folder, only the previous checkpoint exists.
        for candidate in (place, previous(place)):
            if (candidate / MODEL).is_file():
                return candidate
    return None


def _verify(path: Path, expected: str) -> None:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: the checkpoint is incomplete, use another one."
        )
    if sha256(path) != expected:
        raise ValueError(f"{path} is damaged (its SHA-256 differs): use another checkpoint.")
