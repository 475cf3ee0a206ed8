# SPDX-License-Identifier: Apache-2.0
"""The schema of a checkpoint's description: the valid values of each field of its JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import is_count, is_number
from ...schema import (
    NAMES,
    OBJECT,
    THRESHOLDS,
    VERSIONS,
    Field,
    Schema,
    check_fields,
    dict_of,
    is_digest,
    is_text,
)

FORMAT = 2  # 1 has no preprocessing
MODEL, PARAMS, STATES = "model.json", "model.params", "trainer.states"
AVERAGE = "average.params"  # the moving average of the weights, if the run keeps one
DERIVED = ("mean", "std", "input_shape")  # parts of the preprocessing, for other readers


def _are_checksums(value: Any) -> bool:
    names = {PARAMS, STATES}
    return dict_of(is_digest)(value) and set(value) in (names, {*names, AVERAGE})


def _is_progress(value: Any) -> bool:
    counts = ("batch", "images")
    return dict_of(is_number)(value) and all(is_count(value.get(name, 0), 0) for name in counts)


_COUNT = Field("an integer >= 0", lambda value: is_count(value, least=0))
_ANY = Field("anything", lambda value: True)

# The configuration, the spec and the preprocessing check their own fields.
SCHEMA: Schema = {
    "model": Field("a name", is_text),
    "spec": Field("an object", dict_of(lambda value: True)),
    "class_names": NAMES,
    "preprocessing": OBJECT,
    "config": Field("an object", dict_of(lambda value: True)),
    "epoch": _COUNT,
    "step": _COUNT,
    "progress": Field("numbers, those of batches and images integers >= 0", _is_progress),
    "metrics": Field("numbers", dict_of(is_number)),
    "versions": VERSIONS,
    "sha256": Field("a SHA-256 of each file", _are_checksums),
    "thresholds": THRESHOLDS,
    "pretrained": OBJECT._replace(optional=True),
    **dict.fromkeys(DERIVED, _ANY),
}
# Format 1 has no preprocessing.
EARLIER: Schema = {name: field for name, field in SCHEMA.items() if name != "preprocessing"}


def check_description(content: Mapping[str, Any], format: int) -> None:
    """Raise a ValueError that names the first field that is unknown, missing or invalid."""
    check_fields(content, EARLIER if format == 1 else SCHEMA)
