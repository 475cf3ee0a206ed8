"""The flags of the three training commands, which follow from the configuration's fields."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from gluondense.commands.train.flags import OWN, WITHOUT
from gluondense.training.configuration.sections import FIELDS

COMMANDS = ("fashion_mnist", "cifar", "imagenet")
# Flags of the version before the flags were derived, for each command besides COMMON.
COMMON = """--batch-size --compression --data-dir --epochs --gpus --help --kvstore --lr --model
--no-progress --out --recipe --resume --seed --set -h"""
EARLIER = {
    "fashion_mnist": """--accumulate --dataset --dtype --fallback-digits --memory-efficient
        --resize --sync-bn""",
    "cifar": """--cutmix --drop-rate --ema --keep --label-smoothing --log-interval --lr-decay
        --lr-decay-epoch --lr-mode --mixup --momentum --num-epochs --num-gpus --save-dir
        --save-steps --tensorboard --warmup-epochs --wd""",
    "imagenet": """--accumulate --augment --bad --crop-ratio --cutmix --dtype --ema
        --ground-truth --hard-weight --input-size --interpolation --keep --label-smoothing
        --log-interval --lr-decay --lr-decay-epoch --lr-decay-period --lr-mode --memory-efficient
        --mixup --mixup-alpha --mixup-off-epoch --mode --momentum --no-lr-scaling --no-wd
        --num-data-workers --num-epochs --num-gpus --rec-train --rec-val --save-dir --save-steps
        --sync-bn --teacher --temperature --tensorboard --use-rec --warmup-epochs --warmup-lr --wd
        -j""",
}


def load(name):
    return importlib.import_module(f"gluondense.commands.train.{name}")


@pytest.mark.parametrize("name", COMMANDS)
def test_flags_of_earlier_versions_remain(name):
    flags = {flag for action in load(name).make_parser()._actions for flag in action.option_strings}
    assert set((COMMON + " " + EARLIER[name]).split()) <= flags


def flags_of(name):
    """What a command's parser says of each flag, but for the default in its help."""
    return {
        flag: (action.dest, action.type and action.type.__qualname__, action.nargs, action.const)
        for action in load(name).make_parser()._actions
        for flag in action.option_strings
    }


@pytest.mark.parametrize("name", WITHOUT)
def test_each_field_has_a_flag_or_a_reason(name):
    described = {
        action.dest for action in load(name).make_parser()._actions if action.option_strings
    }
    assert set(FIELDS) - {"model_args"} == (set(FIELDS) & described) | set(WITHOUT[name])
    assert not described & set(WITHOUT[name])


def test_all_commands_have_the_same_flags_but_for_those_with_a_reason():
    commands = {name: flags_of(name) for name in WITHOUT}
    every = {flag: described for flags in commands.values() for flag, described in flags.items()}
    for name, flags in commands.items():
        missing = {flag for flag in every if flag not in flags}
        others = {flag for other, own in OWN.items() if other != name for flag in own}
        assert {every[flag][0] for flag in missing - others} <= set(WITHOUT[name])
        assert others <= missing
        assert set(OWN[name]) <= set(flags)
        assert {flag: every[flag] for flag in flags} == flags  # the same meaning everywhere
    modules = {path.stem for path in Path(load("common").__file__).parent.glob("*.py")}
    assert set(WITHOUT) == set(OWN) == modules - {"__init__", "common", "flags"}


@pytest.mark.parametrize("name", WITHOUT)
def test_the_script_is_the_command(name, root):
    text = (root / "scripts" / f"train_{name}.py").read_text(encoding="utf-8")
    assert f"from gluondense.commands.train.{name} import main\n" in text
    assert "argparse" not in text


@pytest.mark.parametrize("name", COMMANDS)
def test_without_flags_the_recipe_decides(name):
    module = load(name)
    config, out = module.make_config(module.make_parser().parse_args([]))
    assert out == f"runs/{config.model.name}-{config.recipe}"
    default = module.make_parser().format_help().split("default: ")[1].split()[0]
    assert config.recipe == default


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("--wd 0.002 --momentum=0.5", {"wd": 0.002, "momentum": 0.5}),
        ("--label-smoothing --mixup", {"label_smoothing": 0.1, "mixup": 0.2}),
        ("--mixup 0.4 --cutmix 1", {"mixup": 0.4, "cutmix": 1.0}),
        ("--mixup-alpha 0.3 --mixup", {"mixup": 0.3}),
        ("--memory-efficient", {"memory_efficient": True}),
        ("--memory-efficient=light", {"memory_efficient": "light"}),
        ("--no-native --no-drop-last --sync-bn", {"native": False, "sync_bn": True}),
        ("--no-wd", {"no_decay_bn": True}),
        ("--num-gpus 2", {"gpus": (0, 1)}),
        ("--gpus 3,1 --num-gpus 4", {"gpus": (3, 1)}),
        ("--epochs=4 --lr-decay-period=1", {"lr_steps": (0.25, 0.5, 0.75)}),
        ("--lr-steps 0.2,0.4 --lr-mode step", {"lr_steps": (0.2, 0.4), "schedule": "step"}),
        ("--augment none --teacher dpn92", {"augment": (), "teacher": "dpn92"}),
    ],
)
def test_flags_set_fields(name, flags, expected):
    module = load(name)
    config, _ = module.make_config(module.make_parser().parse_args(flags.split()))
    values = config.flat()
    assert {key: values[key] for key in expected} == expected


@pytest.mark.parametrize("name", [*COMMANDS, "folder"])
def test_use_pretrained_is_gluoncvs_name_of_the_bare_flag(name):
    parse = load(name).make_parser().parse_args
    assert parse(["--use-pretrained"]).pretrained == "default"
    assert parse(["--pretrained"]).pretrained == "default"
    assert parse(["--pretrained=ra_in1k"]).pretrained == "ra_in1k"
    assert parse([]).pretrained is None
