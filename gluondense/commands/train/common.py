# SPDX-License-Identifier: Apache-2.0
"""The parts that the training commands share: flags, configuration, messages and exit codes."""

from __future__ import annotations

import argparse
import math
import shlex
import signal
import sys
from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Callable, Optional

from ...errors import check_count
from ...training.config import TrainConfig
from ...training.configuration.sections import FIELDS, SECTIONS
from ...training.configuration.settings import Setting, comma_separated, unique_name
from ...training.distributed.rank import is_rank_zero
from ..output import call
from ..parser import Parser
from .flags import NAMES

if TYPE_CHECKING:
    from ...training.run import RunResult

Fields = dict[str, Any]  # by unique name
NOT_FLAGS = {"model", "model_args", "recipe"}  # fields that make_parser adds by hand or not at all


def make_parser(
    description: Optional[str],
    recipes: Mapping[str, TrainConfig],
    default: str,
    without: Collection[str] = (),
    helps: Mapping[str, str] = MappingProxyType({}),
) -> Parser:
    """Make the parser of a training command, with a flag for each field of the configuration.

    The help text shows the values of the recipe ``default``. Fields in ``without`` get no flag,
    fields in ``helps`` another help text.
    """
    parser = Parser(
        names=NAMES,
        usage="%(prog)s [flags]",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"Defaults are those of the recipe {default}; another recipe has others.",
    )
    add = parser.add_argument
    add("--recipe", choices=sorted(recipes), help=f"default: {default}")
    add("--model", metavar="NAME", help="see gluondense models; default: the recipe's")
    add("--out", "--save-dir", metavar="FOLDER", help="run folder; default: runs/MODEL-RECIPE")
    text = "continue the run in FOLDER (or --out) from its last checkpoint"
    add("--resume", nargs="?", const="", metavar="FOLDER", help=text)
    add("--overwrite", action="store_true", help="replace another run in the run folder")
    add("--no-progress", action="store_true", help="no progress bar")
    parser.add_fields()
    values = recipes[default].flat()
    for title, section in SECTIONS.items():
        group = parser.add_argument_group(title)
        for spec in fields(section):
            name, setting = unique_name(spec), spec.metadata["setting"]
            if name not in NOT_FLAGS and name not in without:
                text = helps.get(name, setting.help) + _shown(values[name])
                _add_flag(group, name, setting, text.replace("%", "%%"))
    add = parser.add_argument_group("abbreviations, as in GluonCV's scripts").add_argument
    text = "the same as a bare --pretrained"
    add("--use-pretrained", dest="pretrained", action="store_const", const="default", help=text)
    add("--num-gpus", type=int, default=0, metavar="N", help="the first N GPUs: --gpus 0,1,…")
    add("--drop-rate", type=float, metavar="X", help="the same as --set dropout=X")
    add("--mode", choices=("hybrid",), default="hybrid", help="networks are static graphs")
    add("--mixup-alpha", type=float, metavar="X", help="the same as --mixup X")
    text, integers = "--lr-steps as numbers of epochs", comma_separated(int)
    add("--lr-decay-epoch", type=integers, metavar="30,60", help=text)
    add("--lr-decay-period", type=int, metavar="N", help="--lr-steps after every N epochs")
    return parser


def _add_flag(group: argparse._ArgumentGroup, name: str, setting: Setting, help: str) -> None:
    """Add the flag of a field, which parses to None if it is not given."""
    arguments = dict(setting.rule.arguments)
    if name.startswith("no_"):  # there is no --no-no-…
        arguments = {"action": "store_const", "const": True}
    elif setting.bare is not None:
        arguments.update(nargs="?", const=setting.bare)
    flag = "--" + name.replace("_", "-")
    group.add_argument(flag, *setting.flags, dest=name, default=None, help=help, **arguments)


def _shown(default: Any) -> str:
    """Return the default as a part of the help text."""
    if default is None or isinstance(default, dict):
        return ""
    items = default if isinstance(default, tuple) else (default,)
    words = [f"{item:.3g}" if isinstance(item, float) else str(item) for item in items]
    return f" (default: {','.join(words) or 'none'})"


def main(
    args: argparse.Namespace, configure: Callable[[argparse.Namespace], tuple[TrainConfig, str]]
) -> int:
    """Train the run that ``configure`` returns, print the result or the error.

    Returns
    -------
    int
        The exit code: 0 if trained to the end; 128 plus the number of the signal that stopped the
        run; 1 if the loss stopped being finite; 2 for an error of the user.
    """

    def run(args: argparse.Namespace) -> int:
        config, out = configure(args)
        resume = args.resume is not None
        if resume and args.overwrite:
            raise ValueError(
                "--resume continues the run that --overwrite removes: give one of them."
            )
        return _train(config, out, resume, not args.no_progress, args.overwrite)

    try:
        return call(run, args)
    except FloatingPointError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def make_config(
    args: argparse.Namespace,
    recipes: Mapping[str, TrainConfig],
    default: str,
    with_model: Callable[[TrainConfig, str], TrainConfig] = TrainConfig.with_model,
    derive: Callable[[argparse.Namespace, TrainConfig, Fields], Fields] = lambda *_: {},
) -> tuple[TrainConfig, str]:
    """Return the configuration that the flags describe, and the run's folder.

    ``with_model`` returns a configuration with the model of ``--model``; ``derive`` returns further
    fields, given the flags, the recipe and the fields that flags set.
    """
    config, out = _open_run(args, recipes, default)
    given = _given_fields(args, config)
    config = config.with_fields(**{**given, **derive(args, config, given)})

    def with_network(config: TrainConfig) -> TrainConfig:
        if args.model is not None:
            config = with_model(config, args.model)
        model_args = dict(args.set or ())
        if args.drop_rate is not None:
            model_args["dropout"] = args.drop_rate
        if model_args:
            config = config.with_fields(model_args={**config.model.args, **model_args})
        return config

    if args.resume is None and config.model.pretrained is not None:
        from ...training.fine_tuning.pretrained import adopt_model, adopt_preprocessing

        config = config if args.model is not None else adopt_model(config)
        # The network's stem follows from the input size, which may be that of the weights.
        config = replace(config, data=adopt_preprocessing(with_network(config), given).data)
    config = with_network(config)
    return config, out or f"runs/{args.model or config.model.name}-{config.recipe}"


def _open_run(
    args: argparse.Namespace, recipes: Mapping[str, TrainConfig], default: str
) -> tuple[TrainConfig, Optional[str]]:
    """Return the configuration of the run to resume, or that of the recipe, and ``--out``."""
    if args.resume is None:
        return recipes[args.recipe or default], args.out
    from ...training.run_folder import RunFolder

    out = args.resume or args.out
    if out is None:
        raise ValueError("--resume needs the run's folder: --resume FOLDER.")
    config = RunFolder(out).config()
    if args.recipe not in (None, config.recipe):
        raise ValueError(f"{out} follows the recipe {config.recipe!r}, which can't be changed.")
    return config, out


def _given_fields(args: argparse.Namespace, config: TrainConfig) -> Fields:
    """Return the fields that flags set, by unique name, without those of the model."""
    flags = {name: value for name, value in vars(args).items() if value is not None}
    given = {name: flags[name] for name in FIELDS if name in flags and name not in NOT_FLAGS}
    if args.num_gpus < 0:
        raise ValueError(f"--num-gpus {args.num_gpus} must not be negative.")
    if args.num_gpus and "gpus" not in given:
        given["gpus"] = tuple(range(args.num_gpus))
        args.parser.set_names(gpus="--num-gpus")
    if args.mixup_alpha is not None:
        given["mixup"] = args.mixup_alpha
    epochs = given.get("epochs", config.schedule.epochs)
    drops = args.lr_decay_epoch
    if args.lr_decay_period:
        count = math.ceil(epochs / args.lr_decay_period)
        drops = [args.lr_decay_period * number for number in range(1, count)]
    if drops is not None:
        check_count("epochs", epochs)
        given["lr_steps"] = tuple(epoch / epochs for epoch in drops)
    return given


def _train(config: TrainConfig, out: str, resume: bool, progress: bool, overwrite: bool) -> int:
    from ...training.loop import fit

    if is_rank_zero():
        spec = ", ".join(f"{name}={value}" for name, value in config.model.args.items())
        print(
            f"{config.model.name}{f' ({spec})' if spec else ''} on {config.data.title}, "
            f"recipe {config.recipe}, {config.schedule.epochs} epochs, "
            f"batch {config.data.batch_size}, lr {config.optimizer.lr:g} -> {out}",
            flush=True,
        )
    try:
        result = fit(config, out, resume=resume, progress=progress, overwrite=overwrite)
    except KeyboardInterrupt as error:
        if not (Path(out) / "config.json").exists():
            raise
        signum = error.args[0] if error.args else signal.SIGINT
        raise KeyboardInterrupt(signum, _continue_with(out)) from None
    if is_rank_zero():
        print(_summary(result, config), flush=True)
    return 0 if result.stopped_by is None else 128 + result.stopped_by


def _continue_with(out: str) -> str:
    return f"continue with: {sys.argv[0]} --resume {shlex.quote(out)}"


def _summary(result: RunResult, config: TrainConfig) -> str:
    from ...data.datasets.registry import IN_MEMORY
    from ...training.tasks.registry import find_task

    if result.stopped_by is not None:
        name = signal.Signals(result.stopped_by).name
        return (
            f"stopped by {name} at step {result.step} (epoch {result.epoch + 1}), all saved; "
            f"{_continue_with(result.out_dir)}"
        )
    images = "test" if config.data.dataset in IN_MEMORY else "validation"
    metric = find_task(config.task.name).best
    flag = {"max_steps": "ended by --max-steps: ", "patience": "ended by --patience: "}
    end = flag.get(result.ended_by or "", "")
    return (
        f"{end}{images} {metric.name} {metric.show(result.last)} after epoch "
        f"{result.last['epoch']:g}, best {metric.show(result.best)} after epoch "
        f"{result.best_epoch}, {result.wall_s / 60:.1f} min; report: {result.out_dir}/report.html"
    )
