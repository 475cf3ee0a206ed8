# SPDX-License-Identifier: Apache-2.0
"""Read the benchmark results in ``docs/results/benchmarks``: the newest one of each case."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

FOLDER = Path(__file__).parents[2] / "docs" / "results" / "benchmarks"
AMX = "amx"  # its subfolder with the results of a processor with AMX
Row = dict[str, Any]
Case = tuple[str, int, int, str]  # network, image size, batch, backend


def files(folder: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Return name and content of each file of a subfolder, oldest first."""
    paths = {path.relative_to(FOLDER): path for path in (FOLDER / folder).glob("*.json")}
    found = [
        (name.with_suffix("").as_posix(), json.loads(path.read_text("utf-8")))
        for name, path in paths.items()
    ]
    return sorted(found, key=lambda item: (item[1]["date"], item[0]))


def inference(folder: str = "") -> dict[Case, Row]:
    """Return the newest row of each case that was measured together with OpenVINO.

    Each row has two more keys: ``to_openvino``, the ratio of the times of the backend and of
    OpenVINO in the same precision; and ``openvino_ms``, None where it was not kept.
    """
    newest = {}
    for _, content in files(folder):
        rows = [row for row in content["rows"] if "precision" in row]
        for row in rows:
            peer = "openvino" if row["precision"] == "fp32" else f"openvino-{row['precision']}"
            times = {case_of(other): other["median_ms"] for other in rows}
            openvino_ms = times.get((*case_of(row)[:3], peer))
            ratio = _to_openvino(row, peer, openvino_ms)
            if ratio is not None:
                newest[case_of(row)] = {**row, "to_openvino": ratio, "openvino_ms": openvino_ms}
    return newest


def case_of(row: Row) -> Case:
    """Return the case of a row."""
    return row["model"], row["size"], row["batch"], row["name"]


def _to_openvino(row: Row, peer: str, peer_ms: Optional[float]) -> Optional[float]:
    for key in ("to_reference", "to_best_peer"):
        if (row.get(key) or {}).get("name") == peer:
            return float(row[key]["ratio"])  # the median over the rounds
    return row["median_ms"] / peer_ms if peer_ms else None


def training(folder: str = "") -> dict[Case, Row]:
    """Return the newest row of each case of the training benchmark."""
    contents = [content for _, content in files(folder)]
    return {case_of(row): row for content in contents for row in content["rows"] if "maps" in row}


def content(name: str) -> dict[str, Any]:
    """Return the content of one file."""
    return json.loads((FOLDER / f"{name}.json").read_text("utf-8"))


def networks(rows: dict[Case, Row]) -> Iterator[str]:
    """Yield each network once, in alphabetical order."""
    yield from sorted({case[0] for case in rows})
