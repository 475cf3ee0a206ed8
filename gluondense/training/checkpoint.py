"""Checkpoints: folders that know what network they hold, and survive an interrupted write."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional, Union

import mxnet as mx
import numpy as np
from mxnet import gluon

from ..models import build_model
from ..version import versions
from .config import tuples
from .ema import MovingAverage

FORMAT = 1
MODEL, PARAMS, STATES = "model.json", "model.params", "trainer.states"
AVERAGE = "average.params"  # of the weights, where the run keeps one


@dataclass(frozen=True)
class Checkpoint:
    """What one checkpoint folder says about itself; the arrays stay on disk until asked for.

    Parameters
    ----------
    folder
        Where it lies.
    model_name, spec
        Registry name and all fields of the network's spec.
    class_names, mean, std, input_shape
        What the outputs mean, and what the input (1, C, H, W) must look like.
    config
        The run's ``TrainConfig`` as a dictionary.
    epoch, step
        Epochs finished, and optimizer steps done.
    progress
        What a run needs to continue: batch within the epoch, running sums, time spent.
    metrics, versions
        Accuracies and losses when it was written, and by which software.
    """

    folder: Path
    model_name: str
    spec: dict[str, Any]
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    input_shape: tuple[int, ...]
    config: dict[str, Any]
    epoch: int
    step: int
    progress: dict[str, Any]
    metrics: dict[str, float]
    versions: dict[str, str]

    def network(self, ctx: Any = None) -> gluon.HybridBlock:
        """Build the network and load its weights, averaged ones where the run kept them.

        Parameters
        ----------
        ctx
            Device, or a list of them; the CPU if None.
        """
        net = build_model(self.model_name, **self.spec)
        average = self.folder / AVERAGE
        net.load_parameters(
            str(average if average.is_file() else self.folder / PARAMS), ctx=ctx or mx.cpu()
        )
        return net

    def load_parameters(self, net: gluon.HybridBlock, ctx: Any = None) -> None:
        """Load the weights into a network of the same shape, on one device or a list of them."""
        net.load_parameters(str(self.folder / PARAMS), ctx=ctx or mx.cpu())

    def load_states(self, trainer: gluon.Trainer) -> None:
        """Load the optimizer's states into the trainer of the same network."""
        arrays = mx.nd.load(str(self.folder / STATES))
        for updater, ctx in zip(trainer._updaters, trainer._contexts):
            for key, value in (arrays or {}).items():
                index = int(key)
                updater.states[index] = value.as_in_context(ctx).copy()
                updater.states_synced[index] = True


def load(folder: Union[str, os.PathLike]) -> Checkpoint:
    """Read a checkpoint's description and verify its files.

    Parameters
    ----------
    folder
        A checkpoint's folder, or a run's folder: its best checkpoint, else its last.

    Raises
    ------
    FileNotFoundError
        If there is no checkpoint.
    ValueError
        If a file is damaged or of a newer format.
    """
    place = find(folder)
    if place is None:
        raise FileNotFoundError(
            f"{folder} holds no checkpoint: {MODEL} is neither in it nor below it."
        )
    try:
        facts = json.loads((place / MODEL).read_text(encoding="utf-8"))
        written, sums = facts.pop("format"), facts.pop("sha256")
        name = facts.pop("model")
        values = {key: tuples(value) for key, value in facts.items()}
        values["spec"] = {key: tuples(value) for key, value in facts["spec"].items()}
        checkpoint = Checkpoint(folder=place, model_name=name, **values)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{place / MODEL} is not a checkpoint's description: {error}.") from None
    if written != FORMAT:
        raise ValueError(
            f"{place} has format {written}, this gluondense reads {FORMAT}: update it."
        )
    for name, expected in sums.items():
        _verify(place / name, expected)
    return checkpoint


def load_newest(last: Path) -> Checkpoint:
    """Read the checkpoint at ``last``, or the newest whole one beside it, and say which on stderr.

    Raises
    ------
    FileNotFoundError, ValueError
        If none is whole: what is wrong with the one at ``last``.
    """
    try:
        return load(last)
    except (FileNotFoundError, ValueError) as error:
        first = error
    steps = sorted(last.parent.glob("step-*"), reverse=True)
    for place in (_old(last), *steps, last.with_name("best")):
        try:
            found = load(place)
        except (FileNotFoundError, ValueError):
            continue
        print(
            f"warning: {first}\nwarning: going on from {place}, step {found.step}.", file=sys.stderr
        )
        return found
    raise first


def check_same_model(saved: Checkpoint, net: gluon.HybridBlock) -> None:
    """Make sure that a checkpoint is of this network.

    Raises
    ------
    ValueError
        If it is of another one; names the first field that differs.
    """
    spec = {key: tuples(value) for key, value in asdict(net.spec).items()}
    mine = {"model": net.model_name, **spec}
    theirs = {"model": saved.model_name, **saved.spec}
    for name, value in mine.items():
        if theirs.get(name) != value:
            raise ValueError(
                f"{saved.folder} is a checkpoint of another model: its {name} is "
                f"{theirs.get(name)!r}, not {value!r}. Resume it as it is, or give another --out."
            )


def find(folder: Union[str, os.PathLike]) -> Optional[Path]:
    """Find the checkpoint meant by a run's or a checkpoint's folder; None if there is none."""
    folder = Path(folder)
    for place in (folder, folder / "checkpoints" / "best", folder / "checkpoints" / "last"):
        # Between the two renames of `save` only the old one is there, under its second name.
        for candidate in (place, _old(place)):
            if (candidate / MODEL).is_file():
                return candidate
    return None


def save(
    folder: Union[str, os.PathLike],
    net: gluon.HybridBlock,
    trainer: gluon.Trainer,
    facts: dict[str, Any],
    average: Optional[MovingAverage] = None,
    keep: int = 1,
) -> None:
    """Write a checkpoint beside ``folder`` and rename it into place.

    At any moment either the old or the new checkpoint is complete and found by :func:`load`.

    Parameters
    ----------
    folder
        Where it shall lie; an earlier checkpoint there is replaced.
    net, trainer
        What is saved; parameters of several devices are averaged.
    facts
        The fields of :class:`Checkpoint` that the network doesn't know itself.
    average
        Of the weights.
    keep
        How many checkpoints stay: the others are ``step-…`` beside the folder.

    Raises
    ------
    FloatingPointError
        If a parameter is not finite; the earlier checkpoint stays.
    OSError
        If it can't be written; the earlier checkpoint stays.
    """
    folder = Path(folder)
    new, old = folder.with_name(folder.name + ".new"), _old(folder)
    if not folder.exists() and old.exists():
        old.rename(folder)
    for stale in (new, old):
        shutil.rmtree(stale, ignore_errors=True)
    _check_finite(net)
    try:
        _write(new, net, trainer, facts, average)
    except (OSError, mx.MXNetError) as error:
        shutil.rmtree(new, ignore_errors=True)
        reason = " ".join(str(error).split())[-160:]
        raise OSError(
            f"Can't write a checkpoint to {folder} ({reason}): the one before it is whole; make "
            "room and --resume."
        ) from None
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    _sync(folder.parent)
    if keep > 1 and old.exists():
        step = json.loads((old / MODEL).read_text(encoding="utf-8"))["step"]
        kept = folder.with_name(f"step-{step:08d}")
        shutil.rmtree(kept, ignore_errors=True)
        old.rename(kept)
        for stale in sorted(folder.parent.glob("step-*"))[: 1 - keep]:
            shutil.rmtree(stale, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def _write(
    new: Path,
    net: gluon.HybridBlock,
    trainer: gluon.Trainer,
    facts: dict[str, Any],
    average: Optional[MovingAverage],
) -> None:
    new.mkdir(parents=True)
    net.save_parameters(str(new / PARAMS))
    mx.nd.save(str(new / STATES), _states(trainer))
    if average is not None:
        average.save(new / AVERAGE)
    files = [PARAMS, STATES] + [AVERAGE] * (average is not None)
    for name in files:
        _check_whole(new / name)
    description = {
        "format": FORMAT,
        "model": net.model_name,
        "spec": asdict(net.spec),
        **facts,
        "versions": versions(),
        "sha256": {name: _sha256(new / name) for name in files},
    }
    (new / MODEL).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    for path in (*new.iterdir(), new):
        _sync(path)


def _check_whole(path: Path) -> None:
    # MXNet doesn't look at what closing the file says: of a full disk it may be all that tells.
    if not path.stat().st_size or (not mx.nd.load(str(path)) and path.name != STATES):
        raise OSError(f"{path.name} was not written whole")


def _states(trainer: gluon.Trainer) -> dict[str, mx.nd.NDArray]:
    # Not Trainer.save_states: that is a pickle with the whole optimizer in it, which no one should
    # load from strangers, and which on loading silently brings back the old hyperparameters.
    # All devices hold equal states, as they see the same summed gradients.
    states = trainer._updaters[0].states
    return {str(index): state for index, state in states.items() if state is not None}


def _check_finite(net: gluon.HybridBlock) -> None:
    for name, parameter in net.collect_params().items():
        if not np.isfinite(parameter.list_data()[0].asnumpy()).all():
            raise FloatingPointError(
                f"Parameter {name} is not finite, so nothing was saved: lower the learning rate."
            )


def _old(folder: Path) -> Path:
    return folder.with_name(folder.name + ".old")


def _verify(path: Path, expected: str) -> None:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: the checkpoint is incomplete, use another one."
        )
    if _sha256(path) != expected:
        raise ValueError(f"{path} is damaged (its SHA-256 differs): use another checkpoint.")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _sync(path: Path) -> None:
    # A rename may reach the disk before the bytes do; without this a power cut leaves empty files.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
