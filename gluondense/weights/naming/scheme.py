"""What a layout is: how others name the parameters of the same networks.

A row says for each of our modules what the others call it, so the same row reads a file and writes
one. ``features.stage{i}.layer{j}.{unit}`` matches ``features.stage3.layer12.conv1`` with i = 3,
j = 12 and unit = "conv1"; the other side is a template, or a function of these where numbers are
counted otherwise.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Callable, Union

from ...data.preprocessing import IMAGENET, Preprocessing

Target = Union[str, Callable[..., Union[str, tuple[str, ...]]]]
Rule = tuple[str, Target]
Rules = tuple[Rule, ...]


GLUON: Mapping[str, str] = {}
TORCH = {"gamma": "weight", "beta": "bias"}
MODULE = {"running_mean": "moving_mean", "running_var": "moving_var"}


@dataclasses.dataclass(frozen=True)
class Layout:
    """One way of naming the parameters.

    Parameters
    ----------
    name
        Its name in :data:`LAYOUTS`.
    writer
        Whose files look like that.
    rules
        Pairs of our module and theirs; the first that matches holds. Two of theirs for one of ours
        are filters stacked one above the other.
    kinds
        What differs in the last part of a name: ``gamma`` is torch's ``weight``.
    separator
        Between module and kind.
    aliases
        Regular expressions and replacements that bring older spellings to this one.
    prefixed
        Whether all names begin with a prefix that says nothing (``densenet0_``).
    conv_output
        Whether the classifier is a 1x1 convolution.
    eps
        Of the batch normalizations that the weights were trained with; None if it varies.
    preprocessing
        What such weights take as a rule; None if it varies.
    model
        The only network that is written so, where another layout also has all names.
    """

    name: str
    writer: str
    rules: Rules
    kinds: Mapping[str, str] = dataclasses.field(default_factory=dict)
    separator: str = "."
    aliases: tuple[tuple[str, str], ...] = ()
    prefixed: bool = False
    conv_output: bool = False
    eps: float | None = 1e-5
    preprocessing: Preprocessing | None = IMAGENET
    model: str | None = None

    def names(self, parameters: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """What they call our parameters; those that they do not have are left out."""
        modules: dict[str, tuple[str, ...]] = {}
        names = {}
        for parameter in parameters:
            module, _, kind = parameter.rpartition(".")
            if module not in modules:
                modules[module] = self._modules(module)
            theirs = self.separator + self.kinds.get(kind, kind)
            if modules[module]:
                names[parameter] = tuple(name + theirs for name in modules[module])
        return names

    def _modules(self, module: str) -> tuple[str, ...]:
        for pattern, target in self.rules:
            match = _compiled(pattern).fullmatch(module)
            if match:
                values = {k: int(v) if k in "ij" else v for k, v in match.groupdict().items()}
                names = target(**values) if callable(target) else target.format(**values)
                return (names,) if isinstance(names, str) else names
        return ()

    def keys(self, file: Iterable[str]) -> dict[str, str]:
        """The names in a file by their spelling in this layout."""
        keys = {key: key for key in file}
        for old, new in self.aliases:
            spelling = re.compile(old)
            if any(map(spelling.search, keys)):
                keys = {spelling.sub(new, name): key for name, key in keys.items()}
        if self.prefixed:
            (stem,) = self.names(["features.stem.conv.weight"]).values()
            # The zoo's stages have a conv0 each: the shortest prefix is the network's.
            cuts = sorted((n[: -len(stem[0])] for n in keys if n.endswith(stem[0])), key=len)
            cut = cuts[0] if cuts else ""
            keys = {n[len(cut) :] if n.startswith(cut) else n: key for n, key in keys.items()}
        return keys


@cache
def _compiled(pattern: str) -> re.Pattern:
    """Turn ``{i}`` and ``{j}`` into numbers, ``{path}`` into anything, others into one part."""
    regex = re.escape(pattern).replace(r"\{", "{").replace(r"\}", "}")
    regex = re.sub(r"\{([ij])\}", r"(?P<\1>\\d+)", regex).replace("{path}", "(?P<path>.+)")
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^.]+)", regex))


def norm_as_bn(unit: str) -> str:
    """What most others call our ``norm``."""
    return "bn" if unit == "norm" else unit
