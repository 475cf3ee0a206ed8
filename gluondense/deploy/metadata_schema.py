# SPDX-License-Identifier: Apache-2.0
"""The schema of an export's metadata: the valid values of each field of its JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Callable, NamedTuple

from ..analysis.predictions import ACTIVATIONS
from ..data.preprocessing import Preprocessing
from ..errors import check, check_known, is_count, is_number
from .pre_post import OUTPUTS, PARAMS_DTYPES

Check = Callable[[Any], bool]


class Field(NamedTuple):
    """The rule of a field in words and as a function, and whether the field may be missing."""

    rule: str
    holds: Check
    optional: bool = False


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_share(value: Any) -> bool:
    return is_number(value) and 0 < value < 1


def _list_of(holds: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(holds, value))


def _dict_of(holds: Check) -> Check:
    return lambda value: isinstance(value, dict) and all(map(holds, value.values()))


def _or_none(holds: Check) -> Check:
    return lambda value: value is None or holds(value)


def _is_shape(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(map(is_count, value))


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _are_checksums(value: Any) -> bool:
    files = ({"symbol", "params"}, {"symbol", "params", "library"}, {"model"})
    return _dict_of(_is_digest)(value) and set(value) in files


_OBJECT = Field("an object or null", _or_none(_dict_of(lambda value: True)))

# Lists are JSON's. Preprocessing checks its own fields.
SCHEMA: Mapping[str, Field] = {
    "model": Field("a name or null", _or_none(_is_text)),
    "spec": _OBJECT,
    "target": Field("a name", _is_text),
    "input_name": Field("a name", _is_text),
    "input_shape": Field("two or more positive integers", lambda v: _is_shape(v) and len(v) > 1),
    "outputs": Field("names", lambda value: _list_of(_is_text)(value) and bool(value)),
    "class_names": Field("names or null", _or_none(_list_of(lambda v: isinstance(v, str)))),
    "preprocessing": _OBJECT,
    "versions": Field("names and versions", _dict_of(lambda value: isinstance(value, str))),
    "sha256": Field("a SHA-256 of each file", _are_checksums),
    "quantization": _OBJECT._replace(optional=True),
    "preprocess": Field("true or false", lambda value: isinstance(value, bool), optional=True),
    "output": Field(f"one of {', '.join(OUTPUTS)}", lambda v: v in OUTPUTS, optional=True),
    "params_dtype": Field(
        f"one of {', '.join(PARAMS_DTYPES)}", lambda v: v in PARAMS_DTYPES, optional=True
    ),
    "task": Field(
        f"one of {', '.join(ACTIVATIONS)}", lambda v: v in tuple(ACTIVATIONS), optional=True
    ),
    "thresholds": Field("numbers in (0, 1) or null", _or_none(_list_of(_is_share)), optional=True),
    "output_shapes": Field("lists of positive integers", _list_of(_is_shape), optional=True),
}


def check_fields(content: Mapping[str, Any]) -> None:
    """Raise a ValueError that names the first field that is unknown, missing or invalid."""
    for name in content:
        check_known("field", name, SCHEMA, hint="written by another version?")
    for name, field in SCHEMA.items():
        if name in content:
            check(name, content[name], field.rule, field.holds(content[name]))
        elif not field.optional:
            raise ValueError(f"it lacks the field {name!r}.")
    _check_outputs(content)
    _check_preprocessing(content)


def _check_outputs(content: Mapping[str, Any]) -> None:
    shapes, names = content.get("output_shapes") or [], content["class_names"]
    count = len(content["outputs"])
    rule = f"one for each of the {count} outputs"
    check("output_shapes", shapes, rule, len(shapes) in (0, count))
    if names is not None and shapes:
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
