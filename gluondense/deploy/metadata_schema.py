# SPDX-License-Identifier: Apache-2.0
"""The schema of an export's metadata: the valid values of each field of its JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..analysis.tasks import TASKS
from ..data.preprocessing import Preprocessing
from ..errors import check
from ..schema import (
    NAMES,
    OBJECT,
    THRESHOLDS,
    VERSIONS,
    Field,
    dict_of,
    is_digest,
    is_shape,
    is_text,
    list_of,
    or_none,
)
from ..schema import check_fields as check_schema

OUTPUTS = ("logits", "probabilities", "features", "boxes")
PARAMS_DTYPES = ("float32", "float16")


def _are_checksums(value: Any) -> bool:
    files = ({"symbol", "params"}, {"symbol", "params", "library"}, {"model"})
    return dict_of(is_digest)(value) and set(value) in files


# Preprocessing checks its own fields.
SCHEMA: Mapping[str, Field] = {
    "model": Field("a name or null", or_none(is_text)),
    "spec": OBJECT,
    "target": Field("a name", is_text),
    "input_name": Field("a name", is_text),
    "input_shape": Field("two or more positive integers", lambda v: is_shape(v) and len(v) > 1),
    "outputs": Field("names", lambda value: list_of(is_text)(value) and bool(value)),
    "class_names": NAMES,
    "preprocessing": OBJECT,
    "versions": VERSIONS,
    "sha256": Field("a SHA-256 of each file", _are_checksums),
    "quantization": OBJECT._replace(optional=True),
    "preprocess": Field("true or false", lambda value: isinstance(value, bool), optional=True),
    "output": Field(f"one of {', '.join(OUTPUTS)}", lambda v: v in OUTPUTS, optional=True),
    "params_dtype": Field(
        f"one of {', '.join(PARAMS_DTYPES)}", lambda v: v in PARAMS_DTYPES, optional=True
    ),
    "task": Field(f"one of {', '.join(TASKS)}", lambda v: v in TASKS, optional=True),
    "thresholds": THRESHOLDS,
    "output_shapes": Field("lists of positive integers", list_of(is_shape), optional=True),
}


def check_fields(content: Mapping[str, Any]) -> None:
    """Raise a ValueError that names the first field that is unknown, missing or invalid."""
    check_schema(content, SCHEMA)
    _check_outputs(content)
    _check_preprocessing(content)


def _check_outputs(content: Mapping[str, Any]) -> None:
    shapes, names = content.get("output_shapes") or [], content["class_names"]
    count = len(content["outputs"])
    rule = f"one for each of the {count} outputs"
    check("output_shapes", shapes, rule, len(shapes) in (0, count))
    if names is not None and shapes and content.get("task") != "detection":
        classes = shapes[0][-1]
        rule = f"a name for each of the {classes} outputs, not {len(names)} names"
        check("class_names", names[:3], rule, len(names) == classes)
    thresholds = content.get("thresholds")
    if thresholds is not None and shapes:
        rule = f"one for each of the {shapes[0][-1]} outputs"
        check("thresholds", thresholds[:3], rule, len(thresholds) == shapes[0][-1])


def _check_preprocessing(content: Mapping[str, Any]) -> None:
    values, shape = content["preprocessing"], content["input_shape"]
    if values is None:
        known = not content.get("preprocess", False)
        check("preprocessing", values, "known if the graph normalizes pixels", known)
        return
    expected = Preprocessing.from_dict(values).input_shape[1:]
    rule = f"(N, {', '.join(map(str, expected))}), as the preprocessing says"
    check("input_shape", shape, rule, tuple(shape[1:]) == expected)
