"""Train a network on ImageNet, or on other pictures of classes, with the flags of GluonCV's script.

Without a flag the recipe decides. --batch-size is of each device, and the learning rate follows the
whole batch: a --lr is for the recipe's own batch size, unless --no-lr-scaling.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

from .. import get_spec
from ..data.loaders.stream import BAD
from ..data.transforms.image import IMAGE_AUGMENTATIONS
from ..training import TrainConfig
from ..training.config import DTYPES, KVSTORES
from ..training.distributed.rank import launched_world_size
from ..training.recipes.imagenet import IMAGENET_RECIPES
from . import training as command
from .arguments import Parser

# flag -> field, for flags whose value goes into the field as it is.
FIELDS = {
    "epochs": "epochs",
    "momentum": "momentum",
    "wd": "wd",
    "lr_mode": "schedule",
    "lr_decay": "lr_decay",
    "warmup_lr": "warmup_lr",
    "warmup_epochs": "warmup_epochs",
    "mixup_off_epoch": "mix_off_epochs",
    "cutmix": "cutmix",
    "ema": "ema",
    "teacher": "teacher",
    "temperature": "temperature",
    "hard_weight": "hard_weight",
    "input_size": "resize",
    "crop_ratio": "crop_ratio",
    "interpolation": "interpolation",
    "bad": "bad_images",
    "data_workers": "data_workers",
    "data_dir": "data_dir",
    "rec_train": "rec_train",
    "rec_val": "rec_val",
    "ground_truth": "ground_truth",
    "save_steps": "save_steps",
    "keep": "keep_checkpoints",
    "log_interval": "log_interval",
    "augment": "augment",
    "dtype": "dtype",
    "sync_bn": "sync_bn",
    "accumulate": "accumulate",
    "memory_efficient": "memory_efficient",
    "kvstore": "kvstore",
    "compression": "compression",
    "seed": "seed",
}
PATHS = ("data_dir", "rec_train", "rec_val", "ground_truth")


def main(argv: Optional[list[str]] = None) -> int:
    """Parse, train, print how it ended; return the process's exit code."""
    return command.main(_parser().parse_args(argv), make_config)


def _parser() -> Parser:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--recipe", choices=sorted(IMAGENET_RECIPES), help="default: densenet")
    add("--model", help="name from gluondense.list_models(); default: the recipe's")
    add("--out", "--save-dir", metavar="FOLDER", help="default: runs/MODEL-RECIPE")
    add("--resume", nargs="?", const="", metavar="FOLDER", help="go on with that run")
    data = parser.add_argument_group("data")
    add = data.add_argument
    add("--data-dir", metavar="FOLDER", help="folder with train and val, in ILSVRC's layout")
    add("--use-rec", action="store_true", help="take DATA_DIR/rec/train.rec and val.rec")
    add("--rec-train", metavar="FILE.rec", help="training pictures; the index lies beside it")
    add("--rec-val", metavar="FILE.rec", help="validation pictures")
    add("--ground-truth", metavar="FILE", help="answers of a flat DATA_DIR/val")
    add("-j", "--num-data-workers", dest="data_workers", type=int, help="processes; default: 4")
    add("--bad", choices=BAD, help="pictures that can't be read; default: skip")
    add("--augment", type=_names, metavar="A,B", help=f"none, or {', '.join(IMAGE_AUGMENTATIONS)}")
    add("--input-size", type=int, help="side of what the network sees; default: 224")
    add("--crop-ratio", type=float, help="of validation pictures; default: 0.875")
    add("--interpolation", choices=("bilinear", "bicubic"), help="of validation pictures")
    step = parser.add_argument_group("optimization")
    add = step.add_argument
    add("--num-epochs", "--epochs", dest="epochs", type=int)
    add(
        "--batch-size",
        type=int,
        help="pictures a step on each worker's device; default: the recipe's",
    )
    add("--lr", type=float, help="peak, of the recipe's batch size")
    add("--no-lr-scaling", action="store_true", help="take --lr as it is for any batch size")
    add("--momentum", type=float)
    add("--wd", type=float, help="weight decay")
    add("--no-wd", action="store_true", help="none of BatchNorm's parameters and biases")
    add("--lr-mode", choices=("step", "poly", "cosine", "constant"))
    add("--lr-decay", type=float, help="factor of a step")
    add("--lr-decay-epoch", type=_numbers, metavar="30,60", help="epochs of the steps")
    add("--lr-decay-period", type=int, help="a step each so many epochs")
    add("--warmup-epochs", type=float)
    add("--warmup-lr", type=float, help="that the warm-up starts from; default: 0")
    add("--label-smoothing", nargs="?", type=float, const=0.1, help="without a value: 0.1")
    add("--mixup", action="store_true", help="with --mixup-alpha, else 0.2")
    add("--mixup-alpha", type=float)
    add("--mixup-off-epoch", type=int, help="last epochs without mixup and CutMix")
    add("--cutmix", type=float, metavar="ALPHA", help="such as 1")
    add("--ema", type=float, metavar="DECAY", help="average of the weights, such as 0.9999")
    add("--teacher", help="a run's folder or published weights, such as densenet201.tv_in1k")
    add("--temperature", type=float, help="of the teacher; default: 20")
    add("--hard-weight", type=float, help="share of the labels beside the teacher; default: 0.5")
    add("--seed", type=int)
    device = parser.add_argument_group("device")
    add = device.add_argument
    add("--num-gpus", type=int, default=0, help="0 trains on the CPU")
    add("--gpus", type=_numbers, metavar="0,1", help="their numbers, in place of --num-gpus")
    add("--dtype", choices=DTYPES, help="of convolutions: float16 on GPUs, bfloat16 on CPUs")
    add("--sync-bn", action="store_true", default=None, help="statistics of all devices together")
    add("--accumulate", type=int, metavar="PARTS", help="cut batches into parts, to save memory")
    add("--memory-efficient", action="store_true", default=None, help="recompute maps in backward")
    add("--mode", choices=("hybrid",), default="hybrid", help="networks are static graphs")
    add(
        "--kvstore",
        choices=KVSTORES,
        help="dist_… trains on many machines: scripts/launch.py",
    )
    add("--compression", type=float, metavar="THRESHOLD", help="2-bit gradients between workers")
    log = parser.add_argument_group("log and checkpoints")
    add = log.add_argument
    add("--save-steps", type=int, help="steps between checkpoints; default: five minutes")
    add("--keep", type=int, metavar="N", help="checkpoints that stay, besides the best; default: 1")
    add("--log-interval", type=int, help="steps between lines; default: 50")
    add("--tensorboard", action="store_true", default=None, help="event files in OUT/events")
    add("--no-progress", action="store_true", help="no progress bar")
    parser.add_fields()
    return parser


def make_config(args: argparse.Namespace) -> tuple[TrainConfig, str]:
    """Make the configuration and the folder's name from the flags.

    Raises
    ------
    ValueError
        If they don't fit each other.
    """
    config, out = command.open_run(args, IMAGENET_RECIPES, "densenet")
    values = vars(args)
    given = {field: values[flag] for flag, field in FIELDS.items() if values[flag] is not None}
    given.update(_records(args), **_gpus(args), **_regularization(args))
    # A run goes on from wherever it is resumed, and is evaluated from there.
    paths = {
        name: os.path.abspath(os.path.expanduser(given[name])) for name in PATHS if name in given
    }
    given.update(paths)
    config = replace(config, **given)
    config = replace(config, **_batch(args, config), **_drops(args, config))
    if args.model is not None:
        get_spec(args.model)  # an unknown name before missing data
        config = config.with_model(args.model)
    if args.set:
        config = replace(config, model_args={**config.model_args, **dict(args.set)})
    return config, out


def _records(args: argparse.Namespace) -> dict[str, Any]:
    if not args.use_rec:
        return {}
    if args.data_dir is None:
        raise ValueError("--use-rec takes DATA_DIR/rec/train.rec and val.rec: give --data-dir.")
    folder = Path(args.data_dir).expanduser() / "rec"
    return {f"rec_{part}": str(folder / f"{part}.rec") for part in ("train", "val")}


def _gpus(args: argparse.Namespace) -> dict[str, Any]:
    if args.gpus is not None:
        return {"gpus": tuple(args.gpus)}
    if args.num_gpus < 0:
        raise ValueError(f"--num-gpus {args.num_gpus} must not be negative.")
    return {"gpus": tuple(range(args.num_gpus))} if args.num_gpus else {}


def _regularization(args: argparse.Namespace) -> dict[str, Any]:
    given: dict[str, Any] = {}
    if args.no_wd:
        given["no_decay_bn"] = True
    if args.label_smoothing is not None:
        given["label_smoothing"] = args.label_smoothing
    if args.mixup or args.mixup_alpha is not None:
        given["mixup"] = 0.2 if args.mixup_alpha is None else args.mixup_alpha
    if args.tensorboard:
        given["tensorboard"] = True
    return given


def _batch(args: argparse.Namespace, config: TrainConfig) -> dict[str, Any]:
    """Give the whole batch, and the learning rate that goes with it."""
    size = config.batch_size
    if args.batch_size is not None:
        size = args.batch_size * max(1, len(config.gpus)) * launched_world_size()
    if args.lr is None and args.batch_size is None:
        return {}
    lr = config.lr if args.lr is None else args.lr
    base = IMAGENET_RECIPES[config.recipe]
    if args.no_lr_scaling:
        return {"batch_size": size, "lr": lr}
    if args.lr is None:
        lr = base.lr
    return {"batch_size": size, "lr": lr * size / base.batch_size}


def _drops(args: argparse.Namespace, config: TrainConfig) -> dict[str, Any]:
    """Give the steps of the learning rate as fractions of the run."""
    if args.lr_decay_period:
        count = math.ceil(config.epochs / args.lr_decay_period)
        epochs = [args.lr_decay_period * number for number in range(1, count)]
    elif args.lr_decay_epoch is not None:
        epochs = args.lr_decay_epoch
    else:
        return {}
    return {"lr_steps": tuple(epoch / config.epochs for epoch in epochs)}


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name not in ("", "none"))


if __name__ == "__main__":
    sys.exit(main())
