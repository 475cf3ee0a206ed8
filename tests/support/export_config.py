"""A run of one epoch for the tests of exports."""

from __future__ import annotations

from support.training_tiny import TINY

CONFIG = TINY.with_fields(
    model_args={key: value for key, value in TINY.model.args.items() if key != "dropout"},
    resize=12,
    augment=(),
    epochs=1,
    batch_size=50,
)
