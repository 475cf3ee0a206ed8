# SPDX-License-Identifier: Apache-2.0
"""Match the arrays of a file with the parameters of a network."""

from __future__ import annotations

import fnmatch
import itertools
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from ...data.preprocessing import Preprocessing
from ...errors import in_one_line
from ...models.registry import SPECS, build_model
from ...models.spec import NetworkSpec
from ..formats.open import WeightsFile
from .scheme import NamingScheme
from .schemes import NAMING_SCHEMES
from .unknown import beside, nearest_network

STEM, HEAD = "features.stem.conv.weight", "output."
# Counters of frameworks, and constants of exports that normalize pixels in the graph.
_BOOKKEEPING = ("num_batches_tracked", "data_scale", "data_shift")
_SHOWN = 4


def find_naming_scheme(
    names: Iterable[str], shapes: Mapping[str, tuple[int, ...]], file: WeightsFile, model: str
) -> NamingScheme:
    """Return the scheme that names most of the parameters as the file does.

    A ValueError is raised if none names half of the sampled parameters.

    Parameters
    ----------
    names
        Names of the parameters of the complete network.
    shapes, model
        Shape of each parameter of the network by name; the network's name.
    file
        The file.
    """
    scheme = _best_scheme(list(names), file)
    if scheme is None:
        raise ValueError(_describe_names(shapes, file, model))
    return scheme


def _describe_names(shapes: Mapping[str, tuple[int, ...]], file: WeightsFile, model: str) -> str:
    """Say which network a file of unknown names fits, or put names of the nearest beside it."""
    message = f"{file.path} has {len(file.shapes)} arrays, which match no naming scheme of"
    stored = {key: s for key, s in file.shapes.items() if not key.endswith(_BOOKKEEPING)}
    fits = _fitting_networks(file)
    if fits:
        return f"{message} {model}; it fits {' and '.join(fits)}."
    networks = [(model, shapes), *((name, _shapes(name)) for name in SPECS)]
    nearest = nearest_network(stored, networks)
    if nearest is None:
        return f"{message} {model} ({abbreviate(list(stored))}); {_NO_FIT}."
    name, theirs = nearest
    return (
        f"{message} any network. Their shapes are nearest to those of {name}: "
        f"{beside(stored, theirs)}. If it is that network, map its names "
        "(load_weights(…, naming=…), `gluondense convert --source-naming`): see docs/weights.md."
    )


def _best_scheme(names: list[str], file: WeightsFile) -> NamingScheme | None:
    # The first and last names suffice; all names in all schemes would take longer than loading.
    sample = names[:24] + names[-24:]
    # Schemes whose word for gamma is in the file come first: a complete match ends the search.
    words = {key.replace("_", ".").rpartition(".")[2] for key in file.shapes}
    best, most = None, 0
    for scheme in sorted(
        NAMING_SCHEMES.values(), key=lambda row: row.suffixes.get("gamma", "gamma") not in words
    ):
        keys = scheme.keys(file.shapes)
        score = sum(all(key in keys for key in theirs) for theirs in scheme.names(sample).values())
        if score > most:
            best, most = scheme, score
        if score == len(sample):
            break
    return best if 2 * most >= len(sample) else None


_NO_FIT = "no network of gluondense.list_models() with its default fields fits it either"


def describe_fit(file: WeightsFile) -> str:
    """Say for a message which networks a file fits; takes seconds, as it builds every network."""
    names = _fitting_networks(file)
    return f"it fits {' and '.join(names)}" if names else _NO_FIT


def _fitting_networks(file: WeightsFile) -> list[str]:
    names = []
    for name, spec in SPECS.items():
        shapes = _shapes(name)
        scheme = _best_scheme(list(shapes), file)
        if scheme is not None and not Plan(shapes, spec, file, scheme).mismatch():
            names.append(name)
    return names


@cache
def _shapes(name: str) -> Mapping[str, tuple[int, ...]]:
    parameters = build_model(name)._collect_params_with_prefix()
    return {name: parameter.shape for name, parameter in parameters.items()}


class Plan:
    """The assignment of a file's arrays to a network's parameters, and all that does not fit.

    Parameters
    ----------
    shapes, spec
        Shape of each parameter of the network by name; the network's spec.
    file, scheme
        The file and its naming scheme.
    absent
        Parameters of the complete network that this one does not have; their weights are ignored.

    Attributes
    ----------
    known
        The file's names by their spelling in the scheme.
    keys, loads
        The file's names of each parameter, empty if missing; those of the loadable parameters.
    missing, unexpected, misshapen
        What does not fit; ``misshapen`` includes the shapes.
    fresh, adapted, ignored
        As in :class:`~gluondense.weights.load.LoadReport`.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        spec: NetworkSpec,
        file: WeightsFile,
        scheme: NamingScheme,
        absent: Iterable[str] = (),
    ) -> None:
        self.shapes, self.spec, self.file, self.scheme = shapes, spec, file, scheme
        self.known = known = scheme.keys(file.shapes)
        self.keys = {
            name: tuple(known.get(key, "") for key in keys)
            for name, keys in scheme.names(shapes).items()
        }
        self.missing = [name for name in shapes if "" in self.keys.get(name, ("",))]
        used = set(itertools.chain.from_iterable(self.keys.values()))
        rest = [key for key in file.shapes if key not in used]
        self.ignored = [
            key
            for key in rest
            if key.endswith(_BOOKKEEPING)
            or any(fnmatch.fnmatchcase(key, pattern) for pattern in scheme.ignored)
        ]
        unused = itertools.chain.from_iterable(scheme.names(absent).values())
        self.ignored += [known[key] for key in unused if key in known]
        ignored = set(self.ignored)
        self.unexpected = [key for key in rest if key not in ignored]
        self.fresh: list[str] = []
        self.adapted: list[str] = []
        self.misshapen: list[str] = []
        self.loads: dict[str, tuple[str, ...]] = {}
        missing = set(self.missing)
        for name, keys in self.keys.items():
            if name not in missing:
                self._classify(name, keys)

    def _classify(self, name: str, keys: tuple[str, ...]) -> None:
        have, want = self._stored_shape(keys), self.shapes[name]
        if have == want:
            self.loads[name] = keys
        elif name.startswith(HEAD) and have[1:] == want[1:]:
            self.fresh.append(name)
        elif name == STEM and len(have) == 4 and (have[0], have[2:]) == (want[0], want[2:]):
            self.adapted.append(name)
            self.loads[name] = keys
        else:
            self.misshapen.append(f"{name} {want} (file: {have})")

    def _stored_shape(self, keys: tuple[str, ...]) -> tuple[Any, ...]:
        """Return the shape of a parameter in the file; the shapes of its parts if they differ."""
        stacked, *others = shapes = [self.file.shapes[key] for key in keys]
        if others:
            if not all(shapes) or len({shape[1:] for shape in shapes}) > 1:
                return tuple(shapes)
            stacked = sum(shape[0] for shape in shapes), *stacked[1:]
        # The classifier may be stored as a 1x1 convolution.
        if len(stacked) == 4 and keys == self.keys.get(HEAD + "weight") and stacked[2:] == (1, 1):
            return stacked[:2]
        return stacked

    def preprocessing(self) -> Preprocessing | None:
        """Return the scheme's preprocessing, if the file has the classes and channels for it."""
        usual = self.scheme.preprocessing
        names = self.scheme.names((STEM, HEAD + "bias")).values()
        stored = [self.file.shapes.get(self.known.get(key, ""), ()) for key, *_ in names]
        if usual is None or len(stored) < 2:
            return None
        stem, bias = stored
        fits = stem[1:2] == (len(usual.mean),) and bias == (self.scheme.classes,)
        return usual if fits else None

    def mismatch(self) -> str:
        """Describe everything that does not fit; an empty string if all fits."""
        spec, eps = self.spec, self.scheme.eps
        parts = [
            f"{len(names)} {word}: {abbreviate(names)}"
            for word in ("missing", "unexpected", "misshapen")
            if (names := getattr(self, word))
        ]
        if not parts and eps not in (None, spec.eps):
            trained = f"its batch normalizations were trained with eps={eps:g}"
            return f"{trained}, and eps={spec.eps:g} would give other results"
        return "; ".join(parts)

    def check(self, model: str) -> None:
        """Raise a ValueError that describes everything that does not fit the model."""
        mismatch = self.mismatch()
        if mismatch:
            known = self.scheme.name in NAMING_SCHEMES
            fits = f"; {describe_fit(self.file)}" if known else ""
            raise ValueError(
                f"{self.file.path} ({self.scheme.name} names) does not fit {model} "
                f"with these fields: {mismatch}{fits}."
            )


def abbreviate(names: Sequence[str]) -> str:
    """List the first few names and the number of the others."""
    shown = ", ".join(in_one_line(name, 100) for name in names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
