"""Which array of a file belongs to which parameter of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..models import Network
from .files import WeightsFile
from .layout import Layout
from .layouts import LAYOUTS

STEM, HEAD = "features.stem.conv.weight", "output."
# What frameworks keep beside the parameters.
_BOOKKEEPING = ("num_batches_tracked",)
_SHOWN = 6


def find_layout(parameters: Mapping[str, Any], file: WeightsFile) -> Layout:
    """Return the layout which names the most of these parameters as the file does.

    Raises
    ------
    ValueError
        If none names half of those that are tried.
    """
    names = list(parameters)
    # The beginning and the end tell. All names in all layouts would take longer than loading.
    probes = names[:24] + names[-24:]

    def score(layout: Layout) -> int:
        keys = layout.keys(file.shapes)
        return sum(all(key in keys for key in theirs) for theirs in layout.names(probes).values())

    best = max(LAYOUTS.values(), key=score)
    if 2 * score(best) < len(probes):
        raise ValueError(
            f"{file.path} has {len(file.shapes)} arrays ({some(list(file.shapes))}), which no "
            "known layout of this network has: is it another network's file? Known are those of "
            f"{'; '.join(layout.writer for layout in LAYOUTS.values())}."
        )
    return best


class Plan:
    """Which array goes where, and what does not fit."""

    def __init__(
        self, net: Network, parameters: Mapping[str, Any], file: WeightsFile, layout: Layout
    ) -> None:
        self.net, self.parameters, self.file, self.layout = net, parameters, file, layout
        known = layout.keys(file.shapes)
        self.keys = {
            name: tuple(known.get(key, "") for key in keys)
            for name, keys in layout.names(parameters).items()
        }
        self.missing = [name for name in parameters if not all(self.keys.get(name, ("",)))]
        used = {key for keys in self.keys.values() for key in keys}
        rest = [key for key in file.shapes if key not in used]
        self.ignored = [key for key in rest if key.endswith(_BOOKKEEPING)]
        if net.features_only:
            heads = layout.names((HEAD + "weight", HEAD + "bias")).values()
            self.ignored += [known[key] for keys in heads for key in keys if key in known]
        self.unexpected = [key for key in rest if key not in self.ignored]
        self.fresh: list[str] = []
        self.adapted: list[str] = []
        self.misshapen: list[str] = []
        self.loads: dict[str, tuple[str, ...]] = {}
        for name, keys in self.keys.items():
            if name not in self.missing:
                self._sort(name, keys)

    def _sort(self, name: str, keys: tuple[str, ...]) -> None:
        have, want = self._shape(keys), self.parameters[name].shape
        if have == want:
            self.loads[name] = keys
        elif name.startswith(HEAD) and have[1:] == want[1:]:
            self.fresh.append(name)
        elif name == STEM and len(have) == 4 and (have[0], have[2:]) == (want[0], want[2:]):
            self.adapted.append(name)
            self.loads[name] = keys
        else:
            self.misshapen.append(f"{name} {want} (file: {have})")

    def _shape(self, keys: tuple[str, ...]) -> tuple[int, ...]:
        shapes = [self.file.shapes[key] for key in keys]
        stacked = (sum(shape[0] for shape in shapes), *shapes[0][1:]) if shapes[0] else ()
        # A classifier may be written as a 1x1 convolution.
        if len(stacked) == 4 and keys == self.keys.get(HEAD + "weight") and stacked[2:] == (1, 1):
            return stacked[:2]
        return stacked

    def check(self) -> None:
        """Raise a ValueError that names all that does not fit."""
        path, name, spec = self.file.path, self.net.model_name, self.net.spec
        parts = [
            f"{len(names)} {word}: {some(names)}"
            for word in ("missing", "unexpected", "misshapen")
            if (names := getattr(self, word))
        ]
        if parts:
            raise ValueError(
                f"{path} ({self.layout.name} layout) does not fit {name} with these fields: "
                f"{'; '.join(parts)}. Build the network that the file was saved from."
            )
        if self.layout.eps not in (None, spec.eps):
            raise ValueError(
                f"{path} ({self.layout.name} layout) was trained with eps={self.layout.eps:g} in "
                f"its batch normalizations; {name} was built with eps={spec.eps:g}, which would "
                f"give other numbers: build it with eps={self.layout.eps:g}."
            )


def some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
