"""The smallest run of a detector that still has every part."""

from __future__ import annotations

from gluondense.training import TrainConfig
from support.detectors import SMALL

DETECTOR = "yolo3_efm_csp_peleenet_custom"
TINY_DETECTION = TrainConfig.of(
    model=DETECTOR,
    model_args=SMALL,
    dataset="detection",
    task="detection",
    resize=64,
    augment=("flip", "crop", "mosaic", "mixup", "color_jitter"),
    epochs=2,
    batch_size=4,
    data_workers=0,
    schedule="constant",
    lr=0.002,
)
