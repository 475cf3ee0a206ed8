# SPDX-License-Identifier: Apache-2.0
"""Find the state dict in a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..tensor_index import BadFile, quote
from .globals import SAVE_AGAIN, Tensor

# Averaged weights come first, as in timm: training scripts evaluate and publish these.
NAMES = (
    "state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model_state", "model",
    "network", "net", "module", "weights", "params",
)  # fmt: skip
_MAX_DEPTH = 3

# torch.compile may be outside or inside DataParallel or AveragedModel.
_PREFIXES = ("_orig_mod.", "module.", "_orig_mod.")
_COUNTER = "n_averaged"  # AveragedModel's, without the prefix


def find_state_dict(content: Any) -> dict[str, Tensor]:
    """Find the tensors of a network in an object that ``torch.save`` wrote.

    The first match wins: a dictionary under one of ``NAMES``, in their order, searched recursively;
    the outermost dictionary; the only dictionary in it that holds tensors. A wrapper's prefix that
    all keys share is removed. No named tensors, or several such dictionaries, are an error.
    """
    tensors = next(_named(content, _MAX_DEPTH), None) or _only_one(content)
    for prefix in _PREFIXES:
        keys = [key for key in tensors if key != _COUNTER]
        if keys and all(key.startswith(prefix) for key in keys):
            tensors = {key[len(prefix) :]: tensors[key] for key in keys}
    return tensors


def _named(content: Any, depth: int) -> Iterator[dict[str, Tensor]]:
    if type(content) is not dict or not depth:
        return
    for name in NAMES:
        if name in content:
            yield from _named(content[name], depth - 1)
    tensors = _tensors(content)
    if tensors:
        yield tensors


def _only_one(content: Any) -> dict[str, Tensor]:
    items = content.items() if type(content) is dict else ()
    found = [(quote(name), tensors) for name, item in items if (tensors := _tensors(item))]
    if len(found) == 1:
        return found[0][1]
    if found:
        names = " and ".join(name for name, _ in found[:5])
        raise BadFile(f"holds tensors in {names}; which are the weights is unknown; {SAVE_AGAIN}")
    kind = f"a {type(content).__name__}"
    if type(content) is dict:
        keys = ", ".join(quote(key) for key in list(content)[:5])
        kind = f"a dictionary of {keys or 'nothing'}"
    raise BadFile(f"holds {kind}, and no tensors by name; {SAVE_AGAIN}")


def _tensors(content: Any) -> dict[str, Tensor]:
    if type(content) is not dict:
        return {}
    return {key: item for key, item in content.items() if type(key) is str and type(item) is Tensor}
