# SPDX-License-Identifier: Apache-2.0
"""Recipes for small data sets of grayscale images."""

from __future__ import annotations

from ...errors import check_known
from ..config import TrainConfig

# For 28x28 images on a CPU: one dense layer at full size, most at 14x14 and 7x7. No bottlenecks, as
# 3x3 convolutions of 32 channels run near peak performance while 1x1 convolutions are bound by
# memory. All widths are multiples of 16, as oneDNN falls back to slow kernels for others: a
# transition to 40 channels made one BatchNorm's backward pass 50 times and the whole step four
# times slower.
_SMALL = {"stem": "cifar", "num_init_features": 32, "growth_rate": 32, "bn_size": 0}
_ARGS = {**_SMALL, "block_config": (1, 4, 4)}
_DEEPER = {**_SMALL, "block_config": (1, 4, 6)}
_TINY = {**_SMALL, "stem": "half", "block_config": (2, 2)}
_COSINE = TrainConfig.of("densenet121", model_args=_ARGS, augment=("flip", "crop"), warmup_epochs=1)
# The tutorial's network and loop, unchanged, so that results are comparable.
_LISTING = (
    TrainConfig.of("densenet_tutorial", recipe="listing", init="xavier")
    .with_fields(resize=96, normalize=False, batch_size=64, drop_last=False)
    .with_fields(optimizer="sgd", lr=0.1, momentum=0.0, wd=0.0, schedule="constant", epochs=10)
)

RECIPES: dict[str, TrainConfig] = {
    "listing": _LISTING,
    "demo": _COSINE.with_fields(recipe="demo", model_args=_TINY, epochs=3, warmup_epochs=0.2),
    # 16 minutes on 2 cores.
    "default": _COSINE.with_fields(recipe="default", epochs=10),
    # 63 minutes on 2 cores with one thread each; up to 90 with two threads.
    "best": _COSINE.with_fields(recipe="best", model_args=_DEEPER, epochs=36, label_smoothing=0.1),
}


def get_recipe(name: str) -> TrainConfig:
    """Look up a recipe; an unknown name is a ValueError that suggests similar ones.

    Examples
    --------
    >>> get_recipe("listing").data.resize
    96
    """
    check_known("recipe", name, RECIPES)
    return RECIPES[name]
