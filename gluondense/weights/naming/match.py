"""Which array of a file belongs to which parameter of a network."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from ...models import SPECS, Network, NetworkSpec, build_model
from ..formats.open import WeightsFile
from .scheme import Layout
from .schemes import LAYOUTS

STEM, HEAD = "features.stem.conv.weight", "output."
# What frameworks keep beside the parameters, and exports that normalize pixels themselves.
_BOOKKEEPING = ("num_batches_tracked", "data_scale", "data_shift")
_SHOWN = 4


def find_layout(parameters: Iterable[str], file: WeightsFile) -> Layout:
    """Return the layout which names the most of these parameters as the file does.

    Raises
    ------
    ValueError
        If none names half of those that are tried.
    """
    layout = _best_layout(list(parameters), file)
    if layout is None:
        raise ValueError(
            f"{file.path} has {len(file.shapes)} arrays ({some(list(file.shapes))}), which no "
            f"known layout of this network has; {fitting(file)}."
        )
    return layout


def _best_layout(names: list[str], file: WeightsFile) -> Layout | None:
    # The beginning and the end tell. All names in all layouts would take longer than loading.
    probes = names[:24] + names[-24:]

    # Those whose word for gamma the file has come first: one that names all ends the search.
    words = {key.replace("_", ".").rpartition(".")[2] for key in file.shapes}
    best, most = None, 0
    for layout in sorted(
        LAYOUTS.values(), key=lambda row: row.kinds.get("gamma", "gamma") not in words
    ):
        keys = layout.keys(file.shapes)
        score = sum(all(key in keys for key in theirs) for theirs in layout.names(probes).values())
        if score > most:
            best, most = layout, score
        if score == len(probes):
            break
    return best if 2 * most >= len(probes) else None


def fitting(file: WeightsFile) -> str:
    """Say which networks a file fits, for a message; it takes seconds."""
    names = []
    for name, spec in SPECS.items():
        shapes = _shapes(name)
        layout = _best_layout(list(shapes), file)
        if layout is not None and not Plan(shapes, spec, file, layout).faults():
            names.append(name)
    if names:
        return f"it fits {' and '.join(names)}"
    return "no network of gluondense.list_models() fits it with its own fields either"


@cache
def _shapes(name: str) -> Mapping[str, tuple[int, ...]]:
    return shapes_of(build_model(name))


def shapes_of(net: Network) -> dict[str, tuple[int, ...]]:
    """Shape of each parameter by its name."""
    return {name: value.shape for name, value in net._collect_params_with_prefix().items()}


class Plan:
    """Which array goes where, and what does not fit."""

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        spec: NetworkSpec,
        file: WeightsFile,
        layout: Layout,
        features_only: bool = False,
    ) -> None:
        self.shapes, self.spec, self.file, self.layout = shapes, spec, file, layout
        known = layout.keys(file.shapes)
        self.keys = {
            name: tuple(known.get(key, "") for key in keys)
            for name, keys in layout.names(shapes).items()
        }
        self.missing = [name for name in shapes if "" in self.keys.get(name, ("",))]
        used = set(itertools.chain.from_iterable(self.keys.values()))
        rest = [key for key in file.shapes if key not in used]
        self.ignored = [key for key in rest if key.endswith(_BOOKKEEPING)]
        if features_only:
            heads = layout.names((HEAD + "weight", HEAD + "bias")).values()
            self.ignored += [known[key] for keys in heads for key in keys if key in known]
        ignored = set(self.ignored)
        self.unexpected = [key for key in rest if key not in ignored]
        self.fresh: list[str] = []
        self.adapted: list[str] = []
        self.misshapen: list[str] = []
        self.loads: dict[str, tuple[str, ...]] = {}
        missing = set(self.missing)
        for name, keys in self.keys.items():
            if name not in missing:
                self._sort(name, keys)

    def _sort(self, name: str, keys: tuple[str, ...]) -> None:
        have, want = self._shape(keys), self.shapes[name]
        if have == want:
            self.loads[name] = keys
        elif name.startswith(HEAD) and have[1:] == want[1:]:
            self.fresh.append(name)
        elif name == STEM and len(have) == 4 and (have[0], have[2:]) == (want[0], want[2:]):
            self.adapted.append(name)
            self.loads[name] = keys
        else:
            self.misshapen.append(f"{name} {want} (file: {have})")

    def _shape(self, keys: tuple[str, ...]) -> tuple[Any, ...]:
        stacked, *others = shapes = [self.file.shapes[key] for key in keys]
        if others:
            if not all(shapes) or len({shape[1:] for shape in shapes}) > 1:
                return tuple(shapes)
            stacked = sum(shape[0] for shape in shapes), *stacked[1:]
        # A classifier may be written as a 1x1 convolution.
        if len(stacked) == 4 and keys == self.keys.get(HEAD + "weight") and stacked[2:] == (1, 1):
            return stacked[:2]
        return stacked

    def faults(self) -> str:
        """Name all that does not fit; nothing if all does."""
        spec, eps = self.spec, self.layout.eps
        parts = [
            f"{len(names)} {word}: {some(names)}"
            for word in ("missing", "unexpected", "misshapen")
            if (names := getattr(self, word))
        ]
        if not parts and eps not in (None, spec.eps):
            parts = [
                f"it was trained with eps={eps:g} in its batch normalizations, and with "
                f"eps={spec.eps:g} it would give other numbers"
            ]
        return "; ".join(parts)

    def check(self, model: str) -> None:
        """Raise a ValueError that names all that does not fit the model."""
        faults = self.faults()
        if faults:
            raise ValueError(
                f"{self.file.path} ({self.layout.name} layout) does not fit {model} "
                f"with these fields: {faults}; {fitting(self.file)}."
            )


def some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
