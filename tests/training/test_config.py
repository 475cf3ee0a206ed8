from __future__ import annotations

import json

import pytest

from gluondense.data import AUGMENTATIONS, DATASETS
from gluondense.models import get_spec
from gluondense.training import RECIPES, TrainConfig, get_recipe


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_is_consistent(name):
    recipe = get_recipe(name)
    assert recipe.recipe == name
    assert recipe.dataset in DATASETS
    assert set(recipe.augment) <= set(AUGMENTATIONS)
    get_spec(recipe.model, **recipe.model_args)


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_survives_json(name):
    recipe = get_recipe(name)
    assert TrainConfig.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_listing_is_the_tutorial():
    recipe = get_recipe("listing")
    assert (recipe.model, recipe.model_args) == ("densenet_tutorial", {})
    assert (recipe.epochs, recipe.batch_size, recipe.resize, recipe.drop_last) == (
        10,
        64,
        96,
        False,
    )
    assert (recipe.optimizer, recipe.lr, recipe.momentum, recipe.wd) == ("sgd", 0.1, 0.0, 0.0)
    assert (recipe.schedule, recipe.warmup_epochs, recipe.init) == ("constant", 0.0, "xavier")
    assert (recipe.augment, recipe.normalize, recipe.label_smoothing) == ((), False, 0.0)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("epochs", 0, "`epochs` must be a whole number from 1 up, got 0"),
        ("epochs", 1.5, "`epochs` must be a whole number"),
        ("batch_size", True, "`batch_size` must be a whole number"),
        ("seed", -1, "`seed` must be a whole number from 0 up"),
        ("resize", 0, "`resize`"),
        ("lr", 0, "`lr` must be > 0, got 0"),
        ("lr", float("nan"), "`lr` must be > 0"),
        ("momentum", 1.0, "`momentum` must be >= 0 and < 1"),
        ("wd", -1e-4, "`wd`"),
        ("warmup_epochs", 11, "`warmup_epochs`"),
        ("label_smoothing", 1, "`label_smoothing`"),
        ("mixup", "x", "`mixup`"),
        ("schedule", "exp", "`schedule` must be one of constant, cosine, poly, step, got 'exp'"),
        ("optimizer", "adam", "`optimizer`"),
        ("init", "he", "`init`"),
        ("kvstore", "horovod", "`kvstore` must be one of local, device, dist_sync,.*'horovod'"),
        ("kvstore", "dist-sync", "`kvstore` must be one of"),
        ("compression", -0.5, "`compression`"),
        ("compression", 0.5, "it needs `kvstore` dist_sync, dist_sync_device or dist_async"),
        ("gpus", (0, 0), "`gpus` must be different numbers"),
        ("model_args", {"classes": 3}, "`classes` follows from the data set"),
    ],
)
def test_bad_value_is_refused(field, value, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(model="densenet121", **{field: value})


@pytest.mark.parametrize(
    "fields", [{"kvstore": "dist_async"}, {"kvstore": "dist_sync", "compression": 0.5}]
)
def test_servers_do_not_follow_the_scale_of_float16(fields):
    with pytest.raises(ValueError, match="`dtype` float16 changes the scale"):
        TrainConfig(model="densenet121", dtype="float16", **fields)


def test_unknown_names_get_a_hint():
    with pytest.raises(
        ValueError, match="Unknown training field 'batchsize'; did you mean 'batch_size'"
    ):
        get_recipe("demo").with_fields(batchsize=3)
    with pytest.raises(ValueError, match="Unknown recipe 'tutorial'"):
        get_recipe("tutorial")
