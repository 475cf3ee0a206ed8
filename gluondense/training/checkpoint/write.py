# SPDX-License-Identifier: Apache-2.0
"""Checkpoints are written, and replace earlier ones."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
from mxnet import gluon

from ...blocks.reorders import wait_for_reorders
from ...files import json_sha256, previous, replacing_folder, save_arrays, sha256
from ...text import read_json
from ...version import versions
from .. import optimizer
from ..observers.moving_average import MovingAverage
from .read import find
from .schema import AVERAGE, DERIVED, FORMAT, MODEL, PARAMS, STATES


def save(
    folder: Union[str, os.PathLike],
    net: gluon.HybridBlock,
    trainer: gluon.Trainer,
    facts: dict[str, Any],
    average: Optional[MovingAverage] = None,
    keep: int = 1,
) -> None:
    """Write a checkpoint and replace the earlier one, atomically.

    At any moment :func:`.read.load` finds a complete checkpoint: the old or the new one.

    Parameters
    ----------
    folder, net, trainer
        Path of the checkpoint; network and trainer to save.
    facts, average
        The fields of :class:`.description.Checkpoint` that the network doesn't define itself, and
        the moving average of the weights, if the run keeps one.
    keep
        Number of checkpoints to keep; earlier ones become ``step-...`` beside the folder.

    Raises
    ------
    FloatingPointError, OSError
        If a parameter is not finite, or the checkpoint can't be written; the earlier one stays.
    """
    folder = Path(folder)
    wait_for_reorders()
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
