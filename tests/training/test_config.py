from __future__ import annotations

import json
from dataclasses import fields

import pytest

from gluondense.data import AUGMENTATIONS, DATASETS
from gluondense.data.detection.problems import BAD as DETECTION_BAD
from gluondense.data.files.sources import BAD
from gluondense.data.transforms.image import IMAGE_AUGMENTATIONS
from gluondense.models import get_spec
from gluondense.training import RECIPES, TrainConfig, get_recipe
from gluondense.training.configuration.sections import FIELDS, SECTIONS, DataConfig


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_is_consistent(name):
    recipe = get_recipe(name)
    assert recipe.recipe == name
    assert recipe.data.dataset in DATASETS
    assert set(recipe.data.augment) <= set(AUGMENTATIONS)
    get_spec(recipe.model.name, **recipe.model.args)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("write", [TrainConfig.to_dict, TrainConfig.flat])
def test_recipe_survives_json_in_sections_and_flat(name, write):
    recipe = get_recipe(name)
    assert TrainConfig.from_dict(json.loads(json.dumps(write(recipe)))) == recipe


def test_json_has_sections():
    written = TrainConfig.of("densenet121", lr=0.2, seed=3).to_dict()
    assert list(written) == [*SECTIONS, "recipe"]
    assert (written["model"]["name"], written["optimizer"]["lr"]) == ("densenet121", 0.2)
    assert written["runtime"]["seed"] == 3


# config.json as gluondense wrote it before the configuration had sections.
FLAT = {
    "model": "densenet121",
    "model_args": {"block_config": [1, 1]},
    "recipe": "modern",
    "dataset": "imagenet",
    "data_dir": None,
    "download": True,
    "resize": 96,
    "normalize": True,
    "augment": ["flip"],
    "epochs": 3,
    "batch_size": 40,
    "accumulate": 2,
    "memory_efficient": "light",
    "drop_last": False,
    "optimizer": "sgd",
    "lr": 0.05,
    "momentum": 0.8,
    "wd": 1e-4,
    "no_decay_bn": True,
    "schedule": "step",
    "warmup_epochs": 0.5,
    "lr_steps": [0.5, 0.75],
    "lr_decay": 0.2,
    "label_smoothing": 0.1,
    "mixup": 0.2,
    "init": "xavier",
    "seed": 7,
    "gpus": [0, 1],
    "dtype": "float16",
    "sync_bn": True,
    "native": False,
    "kvstore": "dist_sync",
    "compression": 0.0,
    "rec_train": "/a.rec",
    "rec_val": "/b.rec",
    "ground_truth": None,
    "crop_ratio": 0.9,
    "interpolation": "bicubic",
    "bad_images": "error",
    "data_workers": 2,
    "warmup_lr": 0.0,
    "cutmix": 1.0,
    "mix_off_epochs": 1,
    "ema": 0.9,
    "teacher": "dpn92",
    "temperature": 4.0,
    "hard_weight": 0.3,
    "save_steps": 5,
    "keep_checkpoints": 2,
    "tensorboard": True,
    "log_interval": 10,
}


def test_flat_json_of_earlier_versions_is_read():
    config = TrainConfig.from_dict(FLAT)
    expected = {name: tuple(v) if isinstance(v, list) else v for name, v in FLAT.items()}
    expected["model_args"] = {"block_config": (1, 1)}
    defaults = TrainConfig.of("densenet121").flat()
    assert config.flat() == {**defaults, **expected}
    assert TrainConfig.from_dict(config.to_dict()) == config


def test_unique_names_cover_all_fields():
    config = TrainConfig.of("densenet121")
    names = [(section, f.name) for section, kind in SECTIONS.items() for f in fields(kind)]
    assert sorted(FIELDS.values()) == sorted([*names, ("", "recipe")])
    assert config.with_fields(**config.flat()) == config


def test_choices_are_those_of_the_modules_that_implement_them():
    described = {f.name: f.metadata["setting"] for f in fields(DataConfig)}
    assert described["bad_images"].rule.arguments["choices"] == DETECTION_BAD
    assert set(BAD) < set(DETECTION_BAD)
    for name in (*AUGMENTATIONS, *IMAGE_AUGMENTATIONS):
        assert name in described["augment"].help


def test_listing_is_the_tutorial():
    values = get_recipe("listing").flat()
    expected = {
        "model": "densenet_tutorial",
        "model_args": {},
        "epochs": 10,
        "batch_size": 64,
        "resize": 96,
        "drop_last": False,
        "optimizer": "sgd",
        "lr": 0.1,
        "momentum": 0.0,
        "wd": 0.0,
        "schedule": "constant",
        "warmup_epochs": 0.0,
        "init": "xavier",
        "augment": (),
        "normalize": False,
        "label_smoothing": 0.0,
    }
    assert {name: values[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("epochs", 0, r"epochs \(=0\) must be a positive integer"),
        ("epochs", 1.5, r"epochs \(=1.5\) must be a positive integer"),
        ("batch_size", True, r"batch_size \(=True\) must be a positive integer"),
        ("seed", -1, r"seed \(=-1\) must be an integer >= 0"),
        ("resize", 0, "resize"),
        ("lr", 0, r"lr \(=0\) must be a finite number > 0"),
        ("lr", float("nan"), r"lr \(=nan\) must be a finite number > 0"),
        ("momentum", 1.0, r"momentum \(=1.0\) must be in \[0, 1\)"),
        ("wd", -1e-4, "wd"),
        ("warmup_epochs", 11, r"warmup_epochs \(=11\) must be at most `epochs` \(=10\)"),
        ("label_smoothing", 1, "label_smoothing"),
        ("mixup", "x", "mixup"),
        ("schedule", "exp", "schedule .*must be one of 'constant', 'cosine', 'poly', 'step'"),
        ("optimizer", "adam", "optimizer"),
        ("init", "he", "init"),
        (
            "kvstore",
            "horovod",
            "kvstore .*horovod.* must be one of 'local', 'device', 'dist_sync',",
        ),
        ("augment", "flip", "augment .*must be a tuple of names"),
        ("class_weights", "auto", "class_weights .* must be none, balanced or a number >= 0 for"),
        ("class_weights", (0, 0), "not all 0"),
        ("head_epochs", 11, r"head_epochs \(=11\) must be at most `epochs` \(=10\)"),
        ("layer_decay", 1.5, "layer_decay"),
        ("pretrained", "", "pretrained .* must be a tag, a file or a folder"),
        ("native", 1, r"native \(=1\) must be True or False"),
        ("memory_efficient", "very", "memory_efficient .*must be True, False or one of none"),
        ("kvstore", "dist-sync", "kvstore .* must be one of"),
        ("compression", -0.5, "compression"),
        ("compression", 0.5, "it needs `kvstore` dist_sync, dist_sync_device or dist_async"),
        ("gpus", (0, 0), "gpus .* must be different integers >= 0"),
        ("model_args", {"classes": 3}, "`classes` follows from the data set"),
    ],
)
def test_bad_value_is_refused(field, value, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig.of("densenet121", **{field: value})


@pytest.mark.parametrize(
    "fields", [{"kvstore": "dist_async"}, {"kvstore": "dist_sync", "compression": 0.5}]
)
def test_servers_do_not_follow_the_scale_of_float16(fields):
    with pytest.raises(ValueError, match="dtype float16 changes the scale"):
        TrainConfig.of("densenet121", dtype="float16", **fields)


def test_unknown_names_get_a_hint():
    with pytest.raises(
        ValueError, match="unknown training field 'batchsize'; did you mean 'batch_size'"
    ):
        get_recipe("demo").with_fields(batchsize=3)
    with pytest.raises(ValueError, match="unknown recipe 'tutorial'"):
        get_recipe("tutorial")


def test_single_fields_in_place_of_a_section_are_explained():
    with pytest.raises(ValueError, match=r"model \(='densenet121'\) must be a ModelConfig: Train"):
        TrainConfig(model="densenet121")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optimizer": {"lr": 0.1}}, "names no model"),
        ({"model": {"name": "dpn92"}, "optimizer": {"rate": 1}}, "field of section optimizer"),
        ({"model": "dpn92", "rate": 1}, "unknown training field 'rate'"),
    ],
)
def test_json_that_is_no_configuration(values, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig.from_dict(values)


def test_several_labels_of_a_folder_need_their_task():
    several = {"dataset": "folder", "multi_label": True}
    assert TrainConfig.of("densenet121", task="multi_label", **several).data.multi_label
    with pytest.raises(ValueError, match="they belong together"):
        TrainConfig.of("densenet121", **several)
    with pytest.raises(ValueError, match="'multi_label' does not learn from data with"):
        TrainConfig.of("densenet121", task="multi_label", dataset="folder")


def test_repeats_need_whole_batches_and_augmentation():
    config = TrainConfig.of("densenet121", augment=("flip",), repeats=4)
    assert config.data.repeats == 4
    with pytest.raises(ValueError, match=r"batch_size \(=128\) must be a multiple of `repeats`"):
        config.with_fields(repeats=3)
    with pytest.raises(ValueError, match=r"repeats \(=4\) needs `augment`"):
        config.with_fields(augment=())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"train_sizes": (64, 0)},
            r"train_sizes \(=\(64, 0\)\) must be none, or positive integers",
        ),
        ({"train_sizes": (64, 96), "epochs": 1}, r"=64,96\) are more sizes than epochs \(1\)"),
        ({"train_sizes": (64,), "task": "detection"}, "detectors have `multi_scale`"),
        ({"train_sizes": (64,), "cache_features": True}, r"`train_sizes` \(=64\) doesn't go with"),
        ({"min_area": 0}, r"min_area \(=0\) must be in \(0, 1\]"),
    ],
    ids=str,
)
def test_sizes_and_areas_of_training_images(fields, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig.of("densenet121", **fields)
