"""The inference benchmark: measures what a plan asks for and returns the JSON file's content."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import itertools
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gluondense.analysis.costs import summary

from .interleaved import Log, Measurement, run_rounds, split, start
from .machine import machine, versions
from .prepare import PreparedModel, backends, prepare
from .roofline import costs, peaks
from .throughput import throughput
from .workers.backends import PRECISIONS

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Plan:
    """The measurements to make.

    Parameters
    ----------
    models
        Registry names.
    batches
        Images per prediction.
    sizes
        Heights and widths of the images: all batches are measured with the first size, the other
        sizes with the first batch. Default: each model's own size.
    workers
        Numbers of processes for the throughput; default: no throughput.
    threads
        Threads of each backend, except for the throughput.
    rounds
        Rounds of each backend.
    only
        Names of the backends, all of which must run; default: all that can run.
    reference
        The backend of the second ratio, beside the best peer.
    image_folder
        Folder of images; default: random numbers.
    cache
        Folder to keep the peers' files in for later runs.
    roofline
        Whether to measure the CPU's peaks.
    together
        Whether the backends of all models run in the same rounds, so that models can be compared.
    """

    models: tuple[str, ...]
    batches: tuple[int, ...] = (1, 8)
    sizes: tuple[int, ...] = ()
    workers: tuple[int, ...] = ()
    threads: int = 2
    rounds: int = 15
    only: tuple[str, ...] = ()
    reference: str = "openvino"
    image_folder: Path | None = None
    cache: Path | None = None
    roofline: bool = False
    together: bool = False


def measure(plan: Plan, log: Log) -> Iterator[dict[str, Any]]:
    """Measure, and yield the JSON file's content after each case and at the end.

    Parameters
    ----------
    plan
        The measurements to make.
    log
        Receives progress messages.

    Raises
    ------
    ValueError
        If a name of the plan is unknown or a number is out of range.
    RuntimeError
        If a backend of ``plan.only`` fails, or none can run.
    """
    content: dict[str, Any] = {
        "format": FORMAT,
        "date": datetime.date.today().isoformat(),
        "versions": versions(),
        "machine": machine(),
        "threads": plan.threads,
        "reference": plan.reference,
        "rows": [],
        "between": [],
        "throughput": [],
        "missing": [],
    }
    if plan.roofline:
        content["peaks"] = peaks(plan.threads, log)
        content["costs"] = []
    groups = [plan.models] if plan.together else [(model,) for model in plan.models]
    for models in groups:
        with contextlib.ExitStack() as stack:
            sizes = plan.sizes or (summary(models[0]).input_shape[-1],)
            prepared = [_prepare(content, plan, model, sizes, stack, log) for model in models]
            for case in _cases(plan, sizes):
                _measure_case(content, plan, prepared, case, log)
                yield content
            for model in prepared if plan.workers else ():
                _throughput(content, plan, model, sizes[0], _prefixed(log, model.net.model_name))
    yield content


def _prepare(
    content: dict[str, Any],
    plan: Plan,
    model: str,
    sizes: Sequence[int],
    stack: contextlib.ExitStack,
    log: Log,
) -> PreparedModel:
    folder = stack.enter_context(_folder(plan, model, sizes))
    prepared = prepare(model, folder, sizes, plan.only, plan.image_folder, _prefixed(log, model))
    _add_missing(content, plan, model, prepared.reasons)
    if plan.roofline:
        content["costs"].append({"model": model, **costs(prepared.net, sizes[0])})
    return prepared


@contextlib.contextmanager
def _folder(plan: Plan, model: str, sizes: Sequence[int]) -> Iterator[Path]:
    if plan.cache is None:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)
    else:
        images = plan.image_folder.name if plan.image_folder else "drawn"
        folder = plan.cache / f"{model}-{sizes[0]}-{images}"
        folder.mkdir(parents=True, exist_ok=True)
        yield folder


def _prefixed(log: Log, prefix: str) -> Log:
    return lambda line: log(f"{prefix}: {line}")


def _add_missing(
    content: dict[str, Any], plan: Plan, model: str, reasons: dict[str, str], case: str = ""
) -> None:
    if reasons and plan.only:
        name, reason = next(iter(reasons.items()))
        raise RuntimeError(f"{model} with {name}: {reason}")
    content["missing"] += [
        {"model": model, "case": case, "name": name, "reason": reason}
        for name, reason in reasons.items()
    ]


def _cases(plan: Plan, sizes: Sequence[int]) -> list[tuple[int, int]]:
    return [
        *((batch, sizes[0]) for batch in plan.batches),
        *((plan.batches[0], size) for size in sizes[1:]),
    ]


def _measure_case(
    content: dict[str, Any],
    plan: Plan,
    models: Sequence[PreparedModel],
    case: tuple[int, int],
    log: Log,
) -> None:
    """Measure the backends of a group of models in the same rounds."""
    batch, size = case
    case_name = f"batch {batch}, {size}x{size}"
    with contextlib.ExitStack() as stack:
        groups, missing = [], []
        for model in models:
            shape, expected = (batch, model.net.spec.in_channels, size, size), model.logits(size)
            prefixed = _prefixed(log, f"{model.net.model_name}: {case_name}")
            ready, reasons = start(
                stack, model.folder, model.names, shape, plan.threads, expected, prefixed
            )
            groups.append(ready)
            missing.append(reasons)
        every = list(itertools.chain(*groups))
        log(f"{case_name}: {plan.rounds} rounds of {len(every)} backends")
        results = iter(run_rounds(every, plan.rounds))
    first: Sequence[Measurement] = ()
    for model, ready, reasons in zip(models, groups, missing):
        measurements, stopped = split(ready, list(itertools.islice(results, len(ready))))
        name, reasons = model.net.model_name, {**reasons, **stopped}
        _add_missing(content, plan, name, reasons, case_name)
        if not measurements:
            reason = next(iter((reasons or model.reasons).values()))
            raise RuntimeError(f"no backend can run {name} here, the first because {reason}")
        fields = {"model": name, "batch": batch, "size": size}
        content["rows"] += [{**fields, **row} for row in rows(measurements, plan.reference)]
        content["between"] += [
            {**fields, "to": models[0].net.model_name, **row}
            for row in between(measurements, first)
        ]
        first = first or measurements


def _throughput(
    content: dict[str, Any], plan: Plan, model: PreparedModel, size: int, log: Log
) -> None:
    (batch, *_), spec, name = plan.batches, model.net.spec, model.net.model_name
    shape = (batch, spec.in_channels, size, size)
    found, reasons = throughput(model.folder, model.names, shape, plan.workers, log=log)
    _add_missing(content, plan, name, reasons, "throughput")
    content["throughput"] += [
        {"model": name, "batch": batch, "size": size, **row} for row in throughput_rows(found)
    ]


def _kind(name: str) -> dict[str, Any]:
    row = backends()[name]
    return {"precision": row.precision, "ours": row.ours}


def rows(measurements: Sequence[Measurement], reference: str) -> list[dict[str, Any]]:
    """Return the JSON rows of a case's measurements, ordered by precision and time.

    Parameters
    ----------
    measurements
        Measurements of the same rounds.
    reference
        Name of the backend of ``to_reference``.
    """
    by_name = {measurement.name: measurement for measurement in measurements}
    times = {measurement.name: measurement.median_ms for measurement in measurements}

    def ratio(measurement: Measurement, name: str | None) -> dict[str, Any] | None:
        if name not in by_name:
            return None
        median, low, high = measurement.ratio(by_name[name])
        return {"name": name, "ratio": median, "quartiles": [low, high]}

    return [
        {
            "name": name,
            **_kind(name),
            "median_ms": measurement.median_ms,
            "quartiles_ms": list(measurement.quartiles_ms),
            "to_best_peer": ratio(measurement, _best_peer(times, name)),
            "to_reference": ratio(measurement, reference),
            "off": measurement.error,
            **measurement.startup,
        }
        for name, measurement in ((name, by_name[name]) for name in _ordered(times))
    ]


def between(
    measurements: Sequence[Measurement], others: Sequence[Measurement]
) -> list[dict[str, Any]]:
    """Return each backend's ratio of times between two networks measured in the same rounds."""
    by_name = {other.name: other for other in others}
    found = []
    for measurement in measurements:
        if measurement.name in by_name:
            ratio, low, high = measurement.ratio(by_name[measurement.name])
            found.append({"name": measurement.name, "ratio": ratio, "quartiles": [low, high]})
    return found


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


def _best_peer(costs: dict[str, float], name: str) -> str | None:
    kind = {**_kind(name), "ours": False}
    return min((n for n in costs if _kind(n) == kind), key=lambda n: costs[n], default=None)
