"""The table of recipes for small data sets, and what finds a recipe of any table."""

from __future__ import annotations

from dataclasses import replace

from ..config import TrainConfig

# Made for 28x28 on a CPU: one dense layer at full size, most at 14x14 and 7x7; no bottlenecks, for
# 3x3 convolutions of 32 maps run near the peak while 1x1 ones wait for memory; and every width a
# multiple of 16, else oneDNN falls back to slow kernels (a transition to 40 maps made a BatchNorm's
# backward pass 50 times slower, and the whole step four times).
_COSINE = TrainConfig(
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
_DEEPER = {**_COSINE.model_args, "block_config": (1, 4, 6)}
_TINY = {**_COSINE.model_args, "stem": "half", "block_config": (2, 2)}

RECIPES: dict[str, TrainConfig] = {
    # The tutorial's net and loop to the letter, so that its numbers compare.
    "listing": TrainConfig(
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
    "demo": replace(_COSINE, recipe="demo", model_args=_TINY, epochs=3, warmup_epochs=0.2),
    # 16 minutes on 2 cores.
    "default": replace(_COSINE, recipe="default", epochs=10),
    # 63 minutes of both of 2 cores, at one thread each; up to 90 with two threads.
    "best": replace(_COSINE, recipe="best", model_args=_DEEPER, epochs=36, label_smoothing=0.1),
}


def get_recipe(name: str) -> TrainConfig:
    """Look up a recipe.

    Raises
    ------
    ValueError
        If there is no such recipe.

    Examples
    --------
    >>> get_recipe("listing").resize
    96
    """
    if name not in RECIPES:
        raise ValueError(f"Unknown recipe {name!r}: known are {', '.join(RECIPES)}.")
    return RECIPES[name]
