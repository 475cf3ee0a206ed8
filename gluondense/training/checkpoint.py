# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: folders with a network's weights, its description and the training state."""

from __future__ import annotations

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

from ..analysis.costs import Summary, summary
from ..data.preprocessing import Preprocessing
from ..detection.registry import build_network, is_detector
from ..errors import check, in_one_line
from ..files import json_sha256, previous, replacing_folder, save_arrays, sha256
from ..text import read_json
from ..version import versions
from ..weights.formats.open import open_weights
from . import optimizer
from .checkpoint_schema import AVERAGE, DERIVED, MODEL, PARAMS, STATES, check_description
from .config import TrainConfig
from .configuration.settings import tuples
from .observers.moving_average import MovingAverage
from .run_preprocessing import earlier_preprocessing

FORMAT = 2  # 1 has no preprocessing


@dataclass(frozen=True)
class Checkpoint:
    """The description of a checkpoint folder; its arrays are loaded on request.

    Parameters
    ----------
    folder, model_name, spec
        Path of the checkpoint, registry name and all fields of the network's spec.
    class_names, preprocessing
        Names of the outputs, and the preprocessing of images, also that of files, with which the
        network was validated.
    config
        The run's ``TrainConfig`` as a dictionary.
    epoch, step
        Finished epochs and optimizer steps.
    progress
        State for resuming: batch within the epoch, running sums, time spent.
    metrics, versions
        Accuracies and losses at the time of writing, and the software's versions.
    thresholds
        Probability from which each label of a multi-label network counts as present, chosen on
        the test set; None for classification and within an epoch.
    pretrained
        The weights that training started from: ``name``, ``sha256``, number of ``parameters``,
        ``output`` (``"new"`` or ``"loaded"``) and their ``preprocessing``; None for random ones.
    """

    folder: Path
    model_name: str
    spec: dict[str, Any]
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    config: dict[str, Any]
    epoch: int
    step: int
    progress: dict[str, Any]
    metrics: dict[str, float]
    versions: dict[str, str]
    thresholds: Optional[tuple[float, ...]] = None
    pretrained: Optional[dict[str, Any]] = None

    @property
    def task(self) -> str:
        """Name of what the network has learned, a key of ``TASKS``."""
        return TrainConfig.from_dict(self.config).task.name

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel, for pixels in [0, 1]."""
        return self.preprocessing.mean

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel."""
        return self.preprocessing.std

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape (1, C, H, W) of the input."""
        return self.preprocessing.input_shape

    def network(self, ctx: Any = None) -> gluon.HybridBlock:
        """Build the network and load its weights: the moving average if the run kept one.

        ``ctx`` is a device or a list of devices; default: the CPU. The network's attributes
        ``preprocessing``, ``task`` and ``thresholds`` are set.

        Raises a ValueError if the description and the weights don't belong together.
        """
        try:
            net = build_network(self.model_name, **self.spec)
        except (ValueError, mx.MXNetError) as error:
            reason = in_one_line(error)
            raise ValueError(f"{self.folder / MODEL} describes no network: {reason}") from None
        self.load_parameters(net, ctx, AVERAGE if (self.folder / AVERAGE).is_file() else PARAMS)
        net.preprocessing = self.preprocessing
        if is_detector(self.model_name):
            net.classes = self.class_names
        net.task, net.thresholds = self.task, self.thresholds
        return net

    def costs(self) -> Summary:
        """Count the costs of the network for an image, of a detector without the suppression."""
        net = build_network(self.model_name, **self.spec)
        return summary(getattr(net, "raw", net), self.input_shape)

    def load_parameters(self, net: gluon.HybridBlock, ctx: Any = None, name: str = PARAMS) -> None:
        """Load the weights into a network of the same spec, on a device or a list of devices."""
        path = self.folder / name
        open_weights(path).close()  # MXNet's reader trusts the sizes in a file
        try:
            net.load_parameters(str(path), ctx=ctx or mx.cpu())
        except AssertionError as error:
            reason = in_one_line(error)
            raise ValueError(f"{path} has other weights than its network ({reason}).") from None

    def load_states(self, trainer: gluon.Trainer) -> None:
        """Load the optimizer's states into a trainer of the same network."""
        path = self.folder / STATES
        open_weights(path).close()  # as above
        optimizer.restore_states(trainer, mx.nd.load(str(path)) or {})


def load(folder: Union[str, os.PathLike]) -> Checkpoint:
    """Read a checkpoint's description and verify its files.

    Parameters
    ----------
    folder
        A checkpoint's folder, or a run's folder for its best checkpoint, else its last.

    Raises
    ------
    FileNotFoundError
        If there is no checkpoint, or one of its files is missing.
    ValueError
        If a file is damaged or has a newer format.
    """
    place = find(folder)
    if place is None:
        raise FileNotFoundError(
            f"{folder} holds no checkpoint: there is no {MODEL} in it or below it."
        )
    try:
        facts = read_json(place / MODEL)
        described = isinstance(facts, dict) and "format" in facts
        check("the content", type(facts).__name__, "an object with a format", described)
        written = facts.get("format")
        known = written in (1, FORMAT)
        checkpoint, sums = _parse(place, facts, written) if known else (None, {})
    except ValueError as error:
        reason = in_one_line(error).rstrip(".")
        raise ValueError(f"{place / MODEL} is not a checkpoint's description: {reason}.") from None
    if checkpoint is None:
        raise ValueError(
            f"{place} has format {in_one_line(written)}, this gluondense reads 1 to {FORMAT}: "
            "update gluondense."
        )
    for name, expected in sums.items():
        _verify(place / name, expected)
    return checkpoint


def _parse(place: Path, facts: dict[str, Any], written: int) -> tuple[Checkpoint, dict[str, str]]:
    """Return the description in a file of a known format, and the files' checksums."""
    expected = facts.pop("content_sha256", None)  # earlier versions wrote none
    if expected is not None and json_sha256(facts) != expected:
        raise ValueError("its content is not that of its content_sha256: it is damaged")
    facts = {key: value for key, value in facts.items() if key != "format"}
    check_description(facts, written)
    TrainConfig.from_dict(facts["config"])  # checks its fields
    sums, name = facts.pop("sha256"), facts.pop("model")
    if written == 1:
        preprocessing = earlier_preprocessing(facts)
    else:
        preprocessing = Preprocessing.from_dict(facts.pop("preprocessing"))
    for derived in DERIVED:
        facts.pop(derived)
    values = {key: tuples(value) for key, value in facts.items()}
    values["spec"] = {key: tuples(value) for key, value in facts["spec"].items()}
    return Checkpoint(place, name, preprocessing=preprocessing, **values), sums


def load_newest(last: Path) -> Checkpoint:
    """Read the checkpoint at ``last``, or with a warning on stderr the newest intact one beside it.

    Raises
    ------
    FileNotFoundError, ValueError
        If no checkpoint is intact; the message is about the one at ``last``.
    """
    try:
        return load(last)
    except (FileNotFoundError, ValueError) as error:
        first = error
    steps = sorted(last.parent.glob("step-*"), reverse=True)
    for place in (previous(last), *steps, last.with_name("best")):
        try:
            found = load(place)
        except (FileNotFoundError, ValueError):
            continue
        warning = f"warning: {first}\nwarning: continuing from {place}, step {found.step}."
        print(warning, file=sys.stderr)
        return found
    raise first


def find(folder: Union[str, os.PathLike]) -> Optional[Path]:
    """Return the checkpoint in a run's or a checkpoint's folder, None if there is none."""
    folder = Path(folder)
    for place in (folder, folder / "checkpoints" / "best", folder / "checkpoints" / "last"):
        # Between the two renames of replacing_folder, only the previous checkpoint exists.
        for candidate in (place, previous(place)):
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
    """Write a checkpoint and replace the earlier one, atomically.

    At any moment :func:`load` finds a complete checkpoint: the old or the new one.

    Parameters
    ----------
    folder, net, trainer
        Path of the checkpoint; network and trainer to save.
    facts, average
        The fields of :class:`Checkpoint` that the network doesn't define itself, and the moving
        average of the weights, if the run keeps one.
    keep
        Number of checkpoints to keep; earlier ones become ``step-...`` beside the folder.

    Raises
    ------
    FloatingPointError, OSError
        If a parameter is not finite, or the checkpoint can't be written; the earlier one stays.
    """
    folder = Path(folder)
    _check_finite(net)
    try:
        with replacing_folder(folder) as new:
            _write(new, net, trainer, facts, average)
    except OSError as error:
        kept = " (the previous one is intact)" if find(folder) else ""
        raise OSError(
            f"Can't write a checkpoint to {folder}: {error.strerror or error}{kept}; free some "
            "space, then continue with `resume`."
        ) from None
    if keep > 1:
        _archive_previous(folder, keep - 1)
    shutil.rmtree(previous(folder), ignore_errors=True)


def _write(
    new: Path,
    net: gluon.HybridBlock,
    trainer: gluon.Trainer,
    facts: dict[str, Any],
    average: Optional[MovingAverage],
) -> None:
    parameters = net._collect_params_with_prefix()
    save_arrays(new / PARAMS, {name: value._reduce() for name, value in parameters.items()})
    save_arrays(new / STATES, optimizer.states(trainer))
    if average is not None:
        average.save(new / AVERAGE)
    files = [PARAMS, STATES] + [AVERAGE] * (average is not None)
    preprocessing = facts["preprocessing"]
    description = {
        "format": FORMAT,
        "model": net.model_name,
        "spec": asdict(net.spec),
        **facts,
        "preprocessing": preprocessing.to_dict(),
        **{name: getattr(preprocessing, name) for name in DERIVED},
        "versions": versions(),
        "sha256": {name: sha256(new / name) for name in files},
    }
    description["content_sha256"] = json_sha256(description)
    (new / MODEL).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def _archive_previous(folder: Path, keep: int) -> None:
    """Rename the replaced checkpoint to ``step-...`` and remove all but the newest ``keep``."""
    old = previous(folder)
    if not old.exists():
        return
    try:
        step = int(read_json(old / MODEL)["step"])
    except (OSError, ValueError, TypeError, KeyError):
        return  # a damaged one, which the run did not continue from
    archived = folder.with_name(f"step-{step:08d}")
    shutil.rmtree(archived, ignore_errors=True)
    old.rename(archived)
    for stale in sorted(folder.parent.glob("step-*"))[:-keep]:
        shutil.rmtree(stale, ignore_errors=True)


def _check_finite(net: gluon.HybridBlock) -> None:
    for name, parameter in net.collect_params().items():
        if not np.isfinite(parameter.list_data()[0].asnumpy()).all():
            raise FloatingPointError(
                f"Parameter {name} is not finite, so nothing was saved: lower the learning rate."
            )


def _verify(path: Path, expected: str) -> None:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: the checkpoint is incomplete, use another one."
        )
    if sha256(path) != expected:
        raise ValueError(f"{path} is damaged (its SHA-256 differs): use another checkpoint.")
