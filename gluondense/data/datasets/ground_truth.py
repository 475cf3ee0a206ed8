# SPDX-License-Identifier: Apache-2.0
"""Ground truth files of ImageNet's flat validation folder, in the forms that are in use."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

from ...errors import in_one_line
from ...text import read_text
from ..files.image_list import LABEL_RULE, MAX_CLASSES

# Paths of the known files, relative to the data folder.
GROUND_TRUTH_FILES = (
    "ILSVRC2012_validation_ground_truth.txt",
    "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt",
    "data/ILSVRC2012_validation_ground_truth.txt",
    "imagenet_2012_validation_synset_labels.txt",
    "LOC_val_solution.csv",
    "val.txt",
)

_PRINT_WNIDS = """
import json, sys
from scipy.io import loadmat
rows = loadmat(sys.argv[1], squeeze_me=True)["synsets"].reshape(-1)
print(json.dumps({int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in rows}))
"""


def find_ground_truth(*folders: Path) -> Path | None:
    """Return the first of the ``GROUND_TRUTH_FILES`` that exists in one of the folders."""
    paths = (folder / name for folder in folders for name in GROUND_TRUTH_FILES)
    return next((path for path in paths if path.is_file()), None)


def read_ground_truth(path: str | os.PathLike[str]) -> dict[str, str] | dict[str, int]:
    """Read the class of each validation image, by its file name without suffix.

    A class is a wnid or a label. The known forms are the development kit's
    ``ILSVRC2012_validation_ground_truth.txt`` (class numbers of ``meta.mat``, which must be in the
    same folder), one wnid per line in the order of the images, Caffe's ``val.txt`` (name and label,
    or name and wnid), and Kaggle's ``LOC_val_solution.csv``.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no ground truth {path}; see docs/imagenet.md for the forms")
    lines = read_text(path).split("\n")
    rows = [line.replace("\t", " ").split() for line in lines if line.strip()]
    if rows and lines[0].startswith("ImageId,"):
        return _read_kaggle(path, lines)
    widths = {len(row) for row in rows}
    if widths == {2}:
        values = [row[1] for row in rows]
        stems = [Path(row[0]).stem for row in rows]
        if all(map(str.isdecimal, values)):
            return dict(zip(stems, _labels(path, values)))
        return dict(zip(stems, values))
    if widths != {1}:
        raise ValueError(f"{path} is not a ground truth in a known form; see docs/imagenet.md")
    stems = [f"ILSVRC2012_val_{number:08d}" for number in range(1, len(rows) + 1)]
    if rows[0][0].startswith("n"):
        return {stem: row[0] for stem, row in zip(stems, rows)}
    wnids = _read_wnids(path.with_name("meta.mat"))
    try:
        return {stem: wnids[int(row[0])] for stem, row in zip(stems, rows)}
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path} has {error}, which is not a class number of meta.mat") from None


def _read_kaggle(path: Path, lines: list[str]) -> dict[str, str]:
    """Read a CSV file whose column ``PredictionString`` begins with a wnid."""
    try:
        rows = csv.DictReader(lines)
        return {row["ImageId"]: row["PredictionString"].split()[0] for row in rows}
    except (csv.Error, KeyError, IndexError, AttributeError):  # None: the row is short
        raise ValueError(
            f"{path} line {rows.line_num} has no ImageId and PredictionString; get it again"
        ) from None


def _labels(path: Path, values: list[str]) -> list[int]:
    for value in values:
        if len(value) > 9 or int(value) >= MAX_CLASSES:
            raise ValueError(f"{path} has the label {in_one_line(value, 20)}; {LABEL_RULE}")
    return list(map(int, values))


def _read_wnids(meta: Path) -> dict[int, str]:
    """Read the development kit's class numbers, which do not follow the order of the wnids."""
    if not meta.is_file():
        raise FileNotFoundError(
            f"no {meta}, which maps the class numbers of the ground truth to wnids; copy it from "
            "the development kit beside the ground truth"
        )
    # In another process: SciPy 1.15 crashes on some damaged files with structures.
    done = subprocess.run([sys.executable, "-c", _PRINT_WNIDS, meta], capture_output=True)
    if done.returncode:
        reason = in_one_line(done.stderr.decode(errors="replace").strip().rpartition("\n")[2])
        raise ValueError(f"{meta} is not the development kit's ({reason}); get it again")
    return {int(number): wnid for number, wnid in json.loads(done.stdout).items()}
