"""Everything that one command measures, as the content of its JSON file."""

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

from .candidates import PRECISIONS
from .floor import costs, peaks
from .machine import machine, versions
from .prepare import Prepared, candidates, prepare
from .race import Lap, Say, take_turns, told_apart, warm_up
from .throughput import throughput

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to measure.

    Parameters
    ----------
    models
        Registry names.
    batches
        Numbers of images at a time.
    sizes
        Heights and widths; all batches are measured with the first one, the first batch with all.
        By default what each model was made for.
    workers
        Numbers of processes for the throughput; none by default.
    threads
        Of each candidate, but for the throughput.
    rounds
        Turns of each candidate.
    only
        Names of the candidates, which then must all run; by default all that can.
    reference
        The candidate that others are compared with beside the best peer.
    pictures
        A folder of images; by default they are drawn.
    cache
        A folder to keep what peers read, and to take it from.
    floor
        Whether to measure the CPU's peaks.
    together
        Whether the candidates of all models take turns, so that models can be compared.
    """

    models: tuple[str, ...]
    batches: tuple[int, ...] = (1, 8)
    sizes: tuple[int, ...] = ()
    workers: tuple[int, ...] = ()
    threads: int = 2
    rounds: int = 15
    only: tuple[str, ...] = ()
    reference: str = "openvino"
    pictures: Path | None = None
    cache: Path | None = None
    floor: bool = False
    together: bool = False


def measure(plan: Plan, say: Say) -> Iterator[dict[str, Any]]:
    """Measure, and yield what a JSON file says of it, after each race and at the end.

    Parameters
    ----------
    plan
        What to measure.
    say
        Is told what is under way.

    Raises
    ------
    ValueError
        If the plan cannot be followed.
    RuntimeError
        If a candidate of ``plan.only`` fails.
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
    if plan.floor:
        content["peaks"] = peaks(plan.threads, say)
        content["costs"] = []
    fields = [plan.models] if plan.together else [(model,) for model in plan.models]
    for models in fields:
        with contextlib.ExitStack() as stack:
            sizes = plan.sizes or (summary(models[0]).input_shape[-1],)
            field = [_prepare(content, plan, model, sizes, stack, say) for model in models]
            for case in _cases(plan, sizes):
                _race(content, plan, field, case, say)
                yield content
            for ready in field if plan.workers else ():
                tell = _prefixed(say, ready.net.model_name)
                _throughput(content, plan, ready, sizes[0], tell)
    yield content


def _prepare(
    content: dict[str, Any],
    plan: Plan,
    model: str,
    sizes: Sequence[int],
    stack: contextlib.ExitStack,
    say: Say,
) -> Prepared:
    folder = stack.enter_context(_folder(plan, model, sizes))
    tell = _prefixed(say, model)
    ready = prepare(model, folder, sizes, plan.only, plan.pictures, say=tell)
    _miss(content, plan, model, ready.reasons)
    if plan.floor:
        content["costs"].append({"model": model, **costs(ready.net, sizes[0])})
    return ready


@contextlib.contextmanager
def _folder(plan: Plan, model: str, sizes: Sequence[int]) -> Iterator[Path]:
    if plan.cache is None:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)
    else:
        images = plan.pictures.name if plan.pictures else "drawn"
        folder = plan.cache / f"{model}-{sizes[0]}-{images}"
        folder.mkdir(parents=True, exist_ok=True)
        yield folder


def _prefixed(say: Say, word: str) -> Say:
    return lambda line: say(f"{word}: {line}")


def _miss(
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


def _race(
    content: dict[str, Any],
    plan: Plan,
    field: Sequence[Prepared],
    case: tuple[int, int],
    say: Say,
) -> None:
    """Let the candidates of all networks of a field take turns."""
    batch, size = case
    case_name = f"batch {batch}, {size}x{size}"
    with contextlib.ExitStack() as stack:
        groups, absent = [], []
        for ready in field:
            tell = _prefixed(say, f"{ready.net.model_name}: {case_name}")
            shape, expected = (batch, ready.net.spec.in_channels, size, size), ready.logits(size)
            starters, reasons = warm_up(
                stack, ready.folder, ready.names, shape, plan.threads, expected, tell
            )
            groups.append(starters)
            absent.append(reasons)
        everyone = list(itertools.chain(*groups))
        say(f"{case_name}: {plan.rounds} rounds of {len(everyone)} candidates")
        turns = iter(take_turns(everyone, plan.rounds))
    first: Sequence[Lap] = ()
    for ready, starters, reasons in zip(field, groups, absent):
        laps, stopped = told_apart(starters, list(itertools.islice(turns, len(starters))))
        model, reasons = ready.net.model_name, {**reasons, **stopped}
        _miss(content, plan, model, reasons, case_name)
        if not laps:
            reason = next(iter((reasons or ready.reasons).values()))
            raise RuntimeError(f"no candidate can run {model} here, the first because {reason}")
        case_of = {"model": model, "batch": batch, "size": size}
        content["rows"] += [{**case_of, **row} for row in rows(laps, plan.reference)]
        content["between"] += [
            {**case_of, "to": field[0].net.model_name, **row} for row in between(laps, first)
        ]
        first = first or laps


def _throughput(content: dict[str, Any], plan: Plan, ready: Prepared, size: int, say: Say) -> None:
    (batch, *_), spec, model = plan.batches, ready.net.spec, ready.net.model_name
    shape = (batch, spec.in_channels, size, size)
    found, reasons = throughput(ready.folder, ready.names, shape, plan.workers, say=say)
    _miss(content, plan, model, reasons, "throughput")
    content["throughput"] += [
        {"model": model, "batch": batch, "size": size, **row} for row in throughput_rows(found)
    ]


def _kind(name: str) -> dict[str, Any]:
    row = candidates()[name]
    return {"precision": row.precision, "ours": row.ours}


def rows(laps: Sequence[Lap], reference: str) -> list[dict[str, Any]]:
    """Return what a file says of a race's laps: by precision, then by time.

    Parameters
    ----------
    laps
        Of one race.
    reference
        Name of the candidate that all are compared with.
    """
    by_name = {lap.name: lap for lap in laps}
    times = {lap.name: lap.median_ms for lap in laps}

    def ratio(lap: Lap, name: str | None) -> dict[str, Any] | None:
        if name not in by_name:
            return None
        median, low, high = lap.ratio(by_name[name])
        return {"name": name, "ratio": median, "quartiles": [low, high]}

    return [
        {
            "name": name,
            **_kind(name),
            "median_ms": lap.median_ms,
            "quartiles_ms": list(lap.spread_ms),
            "to_best_peer": ratio(lap, _best_peer(times, name)),
            "to_reference": ratio(lap, reference),
            "off": lap.off,
            **lap.start,
        }
        for name, lap in ((name, by_name[name]) for name in _ordered(times))
    ]


def between(laps: Sequence[Lap], others: Sequence[Lap]) -> list[dict[str, Any]]:
    """Return what each candidate takes of its own time for another network, in the same rounds."""
    by_name = {lap.name: lap for lap in others}
    found = []
    for lap in laps:
        if lap.name in by_name:
            ratio, low, high = lap.ratio(by_name[lap.name])
            found.append({"name": lap.name, "ratio": ratio, "quartiles": [low, high]})
    return found


def throughput_rows(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what ``throughput`` found with ``to_best_peer``, which is above 1 for the faster."""
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
