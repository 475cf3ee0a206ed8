"""The smallest run that still has every part: what the training tests train."""

from __future__ import annotations

from gluondense.training import TrainConfig

TINY = TrainConfig.of(
    model="densenet121",
    model_args={
        "stem": "cifar",
        "num_init_features": 16,
        "growth_rate": 16,
        "block_config": (1, 1),
        "dropout": 0.2,
    },
    dataset="synthetic",
    resize=8,
    augment=("flip", "crop"),
    epochs=2,
    batch_size=40,
    schedule="constant",
    lr=0.05,
)
