# SPDX-License-Identifier: Apache-2.0
"""The catalog's rows of the files in this folder."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from ...data.preprocessing import Preprocessing
from ...download.file import has_sha256
from ..row import Weights

FOLDER = Path(__file__).parent
INDEX = "index.json"


def read_rows(folder: Path = FOLDER) -> list[Weights]:
    """Return the rows in a folder's ``index.json``, in its order."""
    rows = []
    for fields in json.loads((folder / INDEX).read_text(encoding="utf-8")):
        preprocessing = Preprocessing.from_dict(fields.pop("preprocessing"))
        rows.append(Weights(urls=(), preprocessing=preprocessing, **fields))
    return rows


def write_rows(rows: list[Weights], folder: Path = FOLDER) -> None:
    """Write a folder's ``index.json``, which :func:`read_rows` reads."""
    fields = [dataclasses.asdict(row) for row in rows]
    for row in fields:
        del row["urls"]
    text = json.dumps(fields, indent=1) + "\n"
    (folder / INDEX).write_text(text, encoding="utf-8")


def verified_path(row: Weights, folder: Path = FOLDER) -> Path:
    """Return the path of a row's file; raise an OSError if it is missing or damaged."""
    path = folder / row.file_name
    if not has_sha256(path, row.sha256):
        raise OSError(f"{path} of the package is damaged (its SHA-256 differs): reinstall it.")
    return path
