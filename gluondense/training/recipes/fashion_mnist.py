"""Recipes for small data sets of grey images."""

from __future__ import annotations

from ...errors import check_known
from ..config import TrainConfig

# For 28x28 images on a CPU: one dense layer at full size, most at 14x14 and 7x7. No bottlenecks, as
# 3x3 convolutions of 32 channels run near peak performance while 1x1 convolutions are bound by
# memory. All widths are multiples of 16, as oneDNN falls back to slow kernels for others: a
# transition to 40 channels made one BatchNorm's backward pass 50 times and the whole step four
# times slower.
_COSINE = TrainConfig.of(
    model="densenet121",
    model_args={
        "stem": "cifar",
        "num_init_features": 32,
        "growth_rate": 32,
        "block_config": (1, 4, 4),
        "bn_size": 0,
    },
    augment=("flip", "crop"),
    warmup_epochs=1,
)
_DEEPER = {**_COSINE.model.args, "block_config": (1, 4, 6)}
_TINY = {**_COSINE.model.args, "stem": "half", "block_config": (2, 2)}

RECIPES: dict[str, TrainConfig] = {
    # The tutorial's network and loop, unchanged, so that results are comparable.
    "listing": TrainConfig.of(
        recipe="listing",
        model="densenet_tutorial",
        resize=96,
        normalize=False,
        epochs=10,
        batch_size=64,
        drop_last=False,
        optimizer="sgd",
        lr=0.1,
        momentum=0.0,
        wd=0.0,
        schedule="constant",
        init="xavier",
    ),
    "demo": _COSINE.with_fields(recipe="demo", model_args=_TINY, epochs=3, warmup_epochs=0.2),
    # 16 minutes on 2 cores.
    "default": _COSINE.with_fields(recipe="default", epochs=10),
    # 63 minutes on 2 cores with one thread each; up to 90 with two threads.
    "best": _COSINE.with_fields(recipe="best", model_args=_DEEPER, epochs=36, label_smoothing=0.1),
}


def get_recipe(name: str) -> TrainConfig:
    """Look up a recipe.

    Raises
    ------
    ValueError
        If there is no such recipe.

    Examples
    --------
    >>> get_recipe("listing").data.resize
    96
    """
    check_known("recipe", name, RECIPES)
    return RECIPES[name]
