# SPDX-License-Identifier: Apache-2.0
"""The facts of a finished run that its model card shows."""

from __future__ import annotations

import datetime
import importlib
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from benchmarking.machine import machine

from gluondense.commands.experiment import TRAINING
from gluondense.errors import check_known
from gluondense.evaluation import evaluate_model, open_model
from gluondense.evaluation.results import Evaluation
from gluondense.experiment.plan import PlannedRun
from gluondense.experiment.results import Result
from gluondense.models.spec import NetworkSpec
from gluondense.training import checkpoint
from gluondense.training.config import TrainConfig
from gluondense.training.devices import find_devices
from gluondense.training.run_data import PATHS, open_run_data, with_current_paths
from gluondense.training.run_folder import RunFolder
from gluondense.weights.catalog import WEIGHTS
from gluondense.weights.published import published_errors

# Fields that say where the files are and what is written, and don't change the result.
ELSEWHERE = (*PATHS, "download", "data_workers", "save_steps", "keep_checkpoints", "log_interval")
# The largest difference of the accuracies in the log and of the file: the operators may differ.
TOLERANCE = 5e-4


def read_run(folder: Path) -> Result:
    """Return the result of a finished run; raise a ValueError if it is not finished."""
    files = RunFolder(folder)
    result = Result(PlannedRun(folder.name, 0, ()), folder, files.config(), files.rows())
    if not result.log or not result.is_complete:
        raise ValueError(f"{folder} holds no finished run: train it to its end.")
    if result.metric.column != "test_acc":
        raise ValueError(f"{folder} is no classifier of one class per image.")
    return result


def run_facts(
    run: Path, words: Sequence[str], threads: int, seeds: Sequence[Path], weights: Optional[Path]
) -> dict[str, Any]:
    """Evaluate the network after the last epoch of a run on its test images.

    Parameters
    ----------
    run
        The run's folder.
    words
        The arguments of ``gluondense train`` that repeat the run, without its folder and its data.
    threads
        The number of threads that it was trained with.
    seeds
        Folders of runs that differ in the seed only.
    weights
        The file of its weights; default: the checkpoint.

    Returns
    -------
    dict
        Ready for JSON.

    Raises
    ------
    ValueError
        If a run is not finished, or the arguments make another configuration.
    """
    result, last = read_run(run), run / "checkpoints" / "last"
    check_command(words, result.config)
    saved = checkpoint.load(last)
    network = saved.network()
    evaluation = _evaluate(last, str(weights or last))
    predictions = evaluation.predictions
    accuracy = predictions.accuracy
    if abs(accuracy - result.value) > TOLERANCE:
        raise ValueError(
            f"the weights have an accuracy of {accuracy:.2%}, the log of {run} {result.value:.2%}."
        )
    data, cost = result.config.data, saved.costs()
    return {
        "model": saved.model_name,
        "dataset": data.dataset,
        "date": datetime.date.today().isoformat(),
        "command": shlex.join(["gluondense", "train", *words]),
        "threads": threads,
        "recipe": _recipe(result.config),
        "input_shape": list(saved.input_shape),
        "preprocessing": saved.preprocessing.describe(),
        "params": cost.params,
        "macs": cost.macs,
        "images": int(predictions.readable.sum()),
        "top1": accuracy,
        "interval": list(predictions.accuracy_interval),
        "epoch": saved.epoch,
        "seed": result.config.runtime.seed,
        "seeds": _other_seeds(result.config, seeds),
        "published": _published(saved.model_name, network.spec, result.config),
        "wall_s": result.last["wall_s"],
        "cpu_s": result.last["cpu_s"],
        "versions": saved.versions,
        "machine": machine(),
    }


def _published(model: str, spec: NetworkSpec, config: TrainConfig) -> list[dict[str, Any]]:
    """Return the errors of the same network in papers, and of weights that others published."""
    data = config.data
    own = [name for name, row in WEIGHTS.items() if row.model == model and row.urls]
    found = {
        error.source: vars(error)
        for weights in own or [""]
        for error in published_errors(
            model, data.dataset, augmented=bool(data.augment), weights=weights, spec=spec
        )
    }
    return list(found.values())


def check_command(words: Sequence[str], config: TrainConfig) -> None:
    """Raise a ValueError unless arguments of ``gluondense train`` make a configuration."""
    command, *rest = words or ("",)
    check_known("training command", command, TRAINING)
    module = importlib.import_module(f"gluondense.commands.train.{command.replace('-', '_')}")
    made = module.make_config(module.make_parser().parse_args(rest))[0]
    for name, wanted in config.flat().items():
        if name not in ELSEWHERE and made.flat()[name] != wanted:
            raise ValueError(
                f"`gluondense train {shlex.join(words)}` has {name} {made.flat()[name]!r}, "
                f"the run {wanted!r}: give the run's own arguments."
            )


def _evaluate(last: Path, name: str) -> Evaluation:
    """Evaluate a file or a checkpoint on the test images of a run."""
    devices = find_devices(())
    config = TrainConfig.from_dict(checkpoint.load(last).config).data
    data = open_run_data(last, with_current_paths(last, config))
    found = evaluate_model(open_model(name, devices), data, devices)
    assert isinstance(found, Evaluation)
    return found


def _recipe(config: TrainConfig) -> dict[str, Any]:
    """Return the fields that are not those of the plain configuration of the same network."""
    default = TrainConfig.of(config.model.name).flat()
    left_out = (*ELSEWHERE, "model", "dataset", "seed", "mean", "std")
    return {
        name: value
        for name, value in config.flat().items()
        if name not in left_out and value != default[name]
    }


def _other_seeds(config: TrainConfig, folders: Sequence[Path]) -> list[dict[str, float]]:
    """Return seed and accuracy of other runs, which may differ in the seed only."""
    found = []
    for folder in folders:
        other = read_run(folder)
        for name, value in other.config.flat().items():
            if name not in (*ELSEWHERE, "seed") and config.flat()[name] != value:
                raise ValueError(f"{folder} differs from the run in {name}, not only in the seed.")
        found.append({"seed": other.config.runtime.seed, "top1": other.value})
    return found
