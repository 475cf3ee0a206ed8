"""Helpers of several test modules, from commands/test_export.py."""

from __future__ import annotations

from gluondense.training import TrainConfig

CONFIG = TrainConfig.of(
    model="densenet121",
    model_args={
        "stem": "cifar",
        "num_init_features": 16,
        "growth_rate": 16,
        "block_config": (1, 1),
    },
    dataset="synthetic",
    resize=12,
    epochs=1,
    batch_size=50,
    schedule="constant",
    lr=0.05,
)
