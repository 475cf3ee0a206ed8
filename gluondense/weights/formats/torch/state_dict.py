"""Which of a checkpoint's dictionaries is the state dict."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..tensor_index import BadFile, shown
from .globals import SAVE_AGAIN, Tensor

# Averaged weights come first, as in timm: they are what training scripts evaluate and publish.
NAMES = (
    "state_dict_ema",
    "model_ema",
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "network",
    "net",
    "module",
    "weights",
    "params",
)
_DEPTH = 3

# Of torch.compile around or within DataParallel or AveragedModel; and the counter of the latter.
_PREFIXES = ("_orig_mod.", "module.", "_orig_mod.")
_COUNTER = "n_averaged"


def find_state_dict(content: Any) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Find the tensors of a network in what ``torch.save`` was given.

    The first that exists is taken: a dictionary under one of ``NAMES``, in their order, or in a
    dictionary there; the outermost dictionary itself; the only dictionary in it that holds tensors.
    Prefixes that wrappers give to all of its keys are left off.

    Returns
    -------
    tuple
        The tensors by key; notes on what was chosen and left off.
    """
    found = dict(_named(content, "", _DEPTH))
    if not found:
        found = dict(_unnamed(content))
        if len(found) != 1:
            raise _no_telling(content, list(found))
    (taken, tensors), *others = found.items()
    notes = []
    if taken:
        passed = f", not {' or '.join(path or 'what is beside it' for path, _ in others)}"
        notes.append(f"took {taken}{passed if others else ''}")
    for prefix in _PREFIXES:
        keys = [key for key in tensors if key != _COUNTER]
        if keys and all(key.startswith(prefix) for key in keys):
            tensors = {key[len(prefix) :]: tensors[key] for key in keys}
            notes.append(f"left off the prefix {prefix}")
    return tensors, tuple(notes)


def _named(content: Any, path: str, depth: int) -> Iterator[tuple[str, dict[str, Tensor]]]:
    if type(content) is not dict or not depth:
        return
    for name in NAMES:
        if name in content:
            yield from _named(content[name], f"{path}.{name}" if path else name, depth - 1)
    tensors = _tensors(content)
    if tensors:
        yield path, tensors


def _unnamed(content: Any) -> Iterator[tuple[str, dict[str, Tensor]]]:
    for name, item in content.items() if type(content) is dict else ():
        tensors = _tensors(item)
        if tensors:
            yield shown(name), tensors


def _tensors(content: Any) -> dict[str, Tensor]:
    if type(content) is not dict:
        return {}
    return {key: item for key, item in content.items() if type(key) is str and type(item) is Tensor}


def _no_telling(content: Any, paths: list[str]) -> BadFile:
    if paths:
        some = " and ".join(paths[:5])
        return BadFile(f"holds tensors in {some}, no telling which are the weights; {SAVE_AGAIN}")
    what = f"a {type(content).__name__}"
    if type(content) is dict:
        some = ", ".join(shown(key) for key in list(content)[:5])
        what = f"a dictionary of {some or 'nothing'}"
    return BadFile(f"holds {what}, and no tensors by name; {SAVE_AGAIN}")
