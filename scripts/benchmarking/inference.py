# SPDX-License-Identifier: Apache-2.0
"""The inference benchmark: measures what a plan asks for and returns the JSON file's content."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from . import networks
from .interleaved import Measurement, measure_interleaved
from .machine import header
from .prepare import PreparedModel, backends, prepare
from .roofline import costs, peaks
from .throughput import throughput
from .workers.backends import PRECISIONS

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Plan:
    """The measurements to make: the options of ``benchmark.py inference``, see its ``--help``."""

    models: Sequence[str]
    set: Sequence[tuple[str, Any]]
    batches: Sequence[int]
    sizes: Sequence[int]
    workers: Sequence[int]
    threads: int
    rounds: int
    only: Sequence[str]
    reference: str
    images: Path | None
    cache: Path | None
    roofline: bool
    together: bool


def measure(plan: Plan) -> Iterator[dict[str, Any]]:
    """Measure, and yield the JSON file's content after each case and at the end.

    Raises
    ------
    ValueError
        If a name of the plan is unknown or a number is out of range.
    RuntimeError
        If a backend of ``plan.only`` fails, or none can run.
    """
    content = {"format": FORMAT, **header(plan.threads), "reference": plan.reference}
    content.update(between=[], throughput=[])
    if plan.roofline:
        content.update(peaks=peaks(plan.threads), costs=[])
    groups = [plan.models] if plan.together else [(model,) for model in plan.models]
    for models in groups:
        with contextlib.ExitStack() as stack:
            nets = [networks.build(model, dict(plan.set)) for model in models]
            sizes = plan.sizes or (networks.input_size(nets[0]),)
            prepared = []
            for model, net in zip(models, nets):
                folder = stack.enter_context(_folder(plan, networks.label(model, net), sizes))
                prepared.append(prepare(model, folder, sizes, plan.only, plan.images, net))
            for ready in prepared:
                _add_missing(content, plan, ready.name, ready.reasons)
                if plan.roofline:
                    cost = costs(ready.net, sizes[0])
                    content["costs"].append({"model": ready.name, **cost})
            first_size = [(batch, sizes[0]) for batch in plan.batches]
            for batch, size in (*first_size, *((plan.batches[0], size) for size in sizes[1:])):
                _measure_case(content, plan, prepared, batch, size)
                yield content
            for model in prepared if plan.workers else ():
                _measure_throughput(content, plan, model, sizes[0])
    yield content


@contextlib.contextmanager
def _folder(plan: Plan, model: str, sizes: Sequence[int]) -> Iterator[Path]:
    if plan.cache is None:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)
    else:
        folder = plan.cache / f"{model}-{sizes[0]}-{plan.images.name if plan.images else 'drawn'}"
        folder.mkdir(parents=True, exist_ok=True)
        yield folder


def _add_missing(
    content: dict[str, Any], plan: Plan, model: str, reasons: dict[str, str], case: str = ""
) -> None:
    for name, reason in reasons.items():
        if plan.only:
            raise RuntimeError(f"{model} with {name}: {reason}")
        row = {"model": model, "case": case, "name": name, "reason": reason}
        content["missing"].append(row)


def _measure_case(
    content: dict[str, Any], plan: Plan, models: Sequence[PreparedModel], batch: int, size: int
) -> None:
    """Measure the backends of a group of models in the same rounds."""
    cases = [model.case(batch, size) for model in models]
    first: Sequence[Measurement] = ()
    found = measure_interleaved(cases, plan.threads, plan.rounds)
    for model, case, (measurements, reasons) in zip(models, cases, found):
        _add_missing(content, plan, case.model, reasons, f"batch {batch}, {size}x{size}")
        if not measurements:
            reason = next(iter((reasons or model.reasons).values()))
            raise RuntimeError(f"no backend can run {case.model} here, the first because {reason}")
        fields = {"model": case.model, "batch": batch, "size": size}
        content["rows"] += [{**fields, **row} for row in rows(measurements, plan.reference)]
        by_name = {measurement.name: measurement for measurement in first}
        content["between"] += [
            {**fields, "to": cases[0].model, **ratio}
            for measurement in measurements
            if (ratio := measurement.ratio(by_name.get(measurement.name)))
        ]
        first = first or measurements


def _measure_throughput(
    content: dict[str, Any], plan: Plan, model: PreparedModel, size: int
) -> None:
    case = model.case(plan.batches[0], size)
    found, reasons = throughput(case, plan.workers)
    _add_missing(content, plan, case.model, reasons, "throughput")
    fields = {"model": case.model, "batch": case.shape[0], "size": size}
    content["throughput"] += [{**fields, **row} for row in throughput_rows(found)]


def _kind(name: str) -> dict[str, Any]:
    row = backends()[name]
    return {"precision": row.precision, "ours": row.ours}


def rows(measurements: Sequence[Measurement], reference: str) -> list[dict[str, Any]]:
    """Return the JSON rows of a case's measurements, ordered by precision and time.

    ``to_best_peer`` and ``to_reference`` are ratios of times to the fastest peer of the same
    precision and to the backend of the name ``reference``, None without one.
    """
    by_name = {measurement.name: measurement for measurement in measurements}
    times = {measurement.name: measurement.median_ms for measurement in measurements}
    return [
        {
            "name": name,
            **_kind(name),
            "median_ms": times[name],
            "quartiles_ms": by_name[name].quartiles_ms,
            "to_best_peer": by_name[name].ratio(by_name.get(_best_peer(times, name))),
            "to_reference": by_name[name].ratio(by_name.get(reference)),
            "off": by_name[name].error,
            **by_name[name].startup,
        }
        for name in _ordered(times)
    ]


def throughput_rows(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add ``to_best_peer`` to the rows of ``throughput``: above 1 is faster than the best peer."""
    rows = []
    for count in dict.fromkeys(row["workers"] for row in found):
        group = {row["name"]: row for row in found if row["workers"] == count}
        costs = {name: 1 / row["images_per_s"] for name, row in group.items()}
        for name in _ordered(costs):
            best = _best_peer(costs, name)
            ratio = costs[best] / costs[name] if best else None
            rows.append({**group[name], **_kind(name), "to_best_peer": ratio})
    return rows


def _ordered(costs: dict[str, float]) -> list[str]:
    return sorted(costs, key=lambda n: (PRECISIONS.index(_kind(n)["precision"]), costs[n]))


def _best_peer(costs: dict[str, float], name: str) -> str:
    """Return the cheapest peer of the same precision, "" if there is none."""
    kind = {**_kind(name), "ours": False}
    return min((n for n in costs if _kind(n) == kind), key=lambda n: costs[n], default="")
