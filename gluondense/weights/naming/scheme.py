# SPDX-License-Identifier: Apache-2.0
"""Naming schemes: how other libraries name the parameters of the same networks.

A scheme maps each of our modules to the other library's module, in both directions, so that it
reads and writes files. The pattern ``features.stage{i}.layer{j}.{unit}`` matches
``features.stage3.layer12.conv1`` with i = 3, j = 12 and unit = "conv1". The target is a template of
these values, where indices can be scaled and shifted (``{2i+3}``), or a function of them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Callable, Union

from ...data.preprocessing import IMAGENET, Preprocessing
from ...errors import in_one_line

Target = Union[str, tuple[str, ...], Callable[..., Union[str, tuple[str, ...], None]]]
Rule = tuple[str, Target]
Rules = tuple[Rule, ...]

# The last parts of parameter names that differ from ours; Gluon's are ours.
TORCH = {"gamma": "weight", "beta": "bias"}
MODULE = {"running_mean": "moving_mean", "running_var": "moving_var"}


@dataclasses.dataclass(frozen=True)
class NamingScheme:
    """A way of naming parameters.

    Parameters
    ----------
    name
        The key in ``gluondense.weights.NAMING_SCHEMES``.
    writer
        The library or function that writes such files.
    rules
        Pairs of our module and theirs, or of one of our parameters and theirs; the first match
        wins. Two targets for one module are filters that are concatenated along the first axis. A
        target that is a function may return None for a module that the file lacks.
    suffixes
        Differences in the last part of a name: our ``gamma`` is torch's ``weight``.
    words
        Differences in the matched values: most libraries call our unit ``norm`` ``bn``.
    separator
        The separator between module and suffix.
    aliases
        Regular expressions and replacements that convert older spellings to this one.
    prefixed
        Whether all names begin with an arbitrary prefix (``densenet0_``).
    conv_output
        Whether the classifier is a 1x1 convolution.
    eps
        The eps of the batch normalizations in training; None if it varies.
    preprocessing, classes
        The usual preprocessing of weights of so many classes; None if it varies. It is unknown for
        weights of other classes or input channels, because they were trained on other data.
    models
        The only networks that are written in this scheme if another scheme also has all names;
        empty for all.
    ignored
        Patterns (``fnmatch``) of names in files that are no parameters of the network.
    """

    name: str
    writer: str
    rules: Rules
    suffixes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    words: Mapping[str, str] = dataclasses.field(default_factory=dict)
    separator: str = "."
    aliases: tuple[tuple[str, str], ...] = ()
    prefixed: bool = False
    conv_output: bool = False
    eps: float | None = 1e-5
    preprocessing: Preprocessing | None = IMAGENET
    models: tuple[str, ...] = ()
    classes: int = 1000
    ignored: tuple[str, ...] = ()

    def names(self, parameters: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """Map our parameters to their names in this scheme, omitting those without one."""
        modules: dict[str, tuple[str, ...]] = {}
        names: dict[str, tuple[str, ...]] = {}
        exact = {ours: theirs for ours, theirs in self.rules if not callable(theirs)}
        for parameter in parameters:
            if parameter in exact:
                names[parameter] = _as_tuple(exact[parameter])
                continue
            module, _, suffix = parameter.rpartition(".")
            if module not in modules:
                modules[module] = self._modules(module)
            end = self.separator + self.suffixes.get(suffix, suffix)
            if modules[module]:
                names[parameter] = tuple(name + end for name in modules[module])
        return names

    def _modules(self, module: str) -> tuple[str, ...]:
        for pattern, target in self.rules:
            match = _compiled(pattern).fullmatch(module)
            if match:
                values = {name: self.words.get(v, v) for name, v in match.groupdict().items()}
                if callable(target):
                    return _as_tuple(target(**values))
                return tuple(_fill(template, values) for template in _as_tuple(target))
        return ()

    def keys(self, file: Iterable[str]) -> dict[str, str]:
        """Map names in this scheme's spelling to the names in a file."""
        keys = {key: key for key in file}
        for old, new in self.aliases:
            spelling = re.compile(old)
            if any(map(spelling.search, keys)):
                keys = {spelling.sub(new, name): key for name, key in keys.items()}
        if self.prefixed:
            (stem,) = self.names(["features.stem.conv.weight"]).values()
            # Each stage of the zoo has a conv0 too: the network's has the shortest prefix.
            cuts = sorted((n[: -len(stem[0])] for n in keys if n.endswith(stem[0])), key=len)
            cut = cuts[0] if cuts else ""
            keys = {n[len(cut) :] if n.startswith(cut) else n: key for n, key in keys.items()}
        return keys


@cache
def _compiled(pattern: str) -> re.Pattern:
    """Compile a pattern: ``{i}`` and ``{j}`` match numbers, ``{path}`` anything, others a part."""
    regex = re.escape(pattern).replace(r"\{", "{").replace(r"\}", "}")
    regex = re.sub(r"\{([ij])\}", r"(?P<\1>\\d+)", regex).replace("{path}", "(?P<path>.+)")
    try:
        return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^.]+)", regex))
    except re.error as error:
        raise ValueError(
            f"`naming`: the pattern {in_one_line(repr(pattern))} has invalid names in braces "
            f"({in_one_line(error)})."
        ) from None


def check_rules(rules: Rules) -> None:
    """Raise a ValueError if a pattern is invalid or a target uses a name that its pattern lacks."""
    for pattern, target in rules:
        values = dict.fromkeys(_compiled(pattern).groupindex, "1")
        if not callable(target):
            for template in _as_tuple(target):
                _fill(template, values)


def _as_tuple(target: Any) -> tuple[str, ...]:
    if target is None:
        return ()
    return (target,) if isinstance(target, str) else tuple(target)


def _fill(template: str, values: Mapping[str, str]) -> str:
    def index(match: re.Match[str]) -> str:
        scale, name, shift = match.groups()
        return str(int(scale or 1) * int(values[name]) + int(shift or 0))

    try:
        return re.sub(r"\{(\d*)([ij])([+-]\d+)?\}", index, template).format(**values)
    except (KeyError, IndexError, ValueError) as error:
        known = ", ".join(f"{{{name}}}" for name in values) or "none"
        raise ValueError(
            f"`naming`: the target {in_one_line(repr(template))} uses {in_one_line(error)}, but "
            f"its pattern has {in_one_line(known)}."
        ) from None


def for_dpn68b(
    scheme: NamingScheme, writer: str, norm: str, *convolutions: str, models: tuple[str, ...] = ()
) -> NamingScheme:
    """Return the variant for DPN-68b, which has two convolutions where ours has one."""
    conv_c = "features.stage{i}.block{j}.conv_c"
    split: Rules = (f"{conv_c}.norm", norm), (f"{conv_c}.conv", convolutions)
    return dataclasses.replace(
        scheme, name=f"{scheme.name}-b", writer=writer, rules=split + scheme.rules, models=models
    )
