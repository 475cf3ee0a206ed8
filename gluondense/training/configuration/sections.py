# SPDX-License-Identifier: Apache-2.0
"""The sections of a training run's configuration: every field with default, help and valid values.

Each part of a run is built from one section. The help text of a field is its documentation, which
``gluondense train imagenet --help`` prints too. This module imports neither MXNet nor NumPy; names
of models, data sets and tasks are looked up when the parts are built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Optional, Union

from ...errors import check, check_known
from .augmentation_fields import AugmentationFields
from .detection_fields import DetectionFields
from .folder_fields import FolderFields
from .optimization import OptimizerConfig, ScheduleConfig
from .rules import CLASS_WEIGHTS, MODEL_ARGS, NAMES, NUMBERS, PRETRAINED, RECOMPUTE
from .runtime import RuntimeConfig
from .settings import (
    REQUIRED,
    Section,
    choice,
    count,
    number,
    path,
    setting,
    switch,
    text,
    unique_name,
)


@dataclass(frozen=True)
class DataConfig(FolderFields, DetectionFields, AugmentationFields):
    """The images of a run, and how they become batches."""

    dataset: str = setting("fashion_mnist", "data set, a row of DATASETS", text())
    data_dir: Optional[str] = setting(
        None, "folder with the data set's files; by default MXNet's data folder", path()
    )
    download: bool = setting(True, "download missing files", switch())
    rec_train: Optional[str] = setting(
        None, "RecordIO file of training images, with its .idx beside it", path("FILE.rec")
    )
    rec_val: Optional[str] = setting(None, "RecordIO file of validation images", path("FILE.rec"))
    ground_truth: Optional[str] = setting(
        None, "labels of a flat validation folder, as ILSVRC's", path("FILE")
    )
    resize: Optional[int] = setting(
        None,
        "side in pixels of the network's input; by default the data set's own",
        count(),
        flags=("--input-size",),
    )
    normalize: bool = setting(
        True, "normalize by the data set's mean and std; otherwise pixels are in [0, 1]", switch()
    )
    mean: Optional[tuple[float, ...]] = setting(
        None, "mean of each channel, for pixels in [0, 1]; by default the data set's", NUMBERS
    )
    std: Optional[tuple[float, ...]] = setting(
        None, "standard deviation of each channel; by default the data set's", NUMBERS
    )
    invert: bool = setting(
        False,
        "invert image files that are dark on light, for a network that learns light on dark",
        switch(),
    )
    crop_ratio: float = setting(
        0.875, "share of a validation image file's side that is cropped", number(0, 1, "right")
    )
    interpolation: str = setting(
        "bilinear", "interpolation of validation image files", choice("bilinear", "bicubic")
    )
    bad_images: str = setting(
        "skip",
        "for unreadable image files: skip names and replaces them, error stops; for bad boxes "
        "also clip, which cuts off what is outside of the image",
        choice("skip", "clip", "error"),
        flags=("--bad",),
    )
    data_workers: int = setting(
        4,
        "processes that decode image files; the result is the same for any number",
        count(0),
        flags=("-j", "--num-data-workers"),
    )
    cache_features: bool = setting(
        False,
        "compute the features of all images once, without augmentation, and train the output only",
        switch(),
    )
    batch_size: int = setting(128, "images per step, over all devices of all workers", count())
    drop_last: bool = setting(
        True, "drop the last incomplete batch, which would re-plan the static graph", switch()
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        holds = self.batch_size % self.repeats == 0
        check("batch_size", self.batch_size, f"a multiple of `repeats` (={self.repeats})", holds)

    @property
    def title(self) -> str:
        """The data set for readers: its name, or that of the folder or CSV file of own images.

        Examples
        --------
        >>> DataConfig(dataset="folder", data_dir="/my/photos").title
        'photos'
        """
        if self.dataset not in ("folder", "detection") or self.data_dir is None:
            return self.dataset
        return Path(self.data_dir).stem

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the network's input."""
        if self.resize is not None:
            return (self.resize, self.resize)
        from ...data.datasets.registry import DATASETS

        check_known("data set", self.dataset, DATASETS)
        return DATASETS[self.dataset].image_size


@dataclass(frozen=True)
class ModelConfig(Section):
    """The network: its row, its initial weights, and how its graph is executed."""

    name: str = setting(REQUIRED, "model name, see gluondense models", text(), name="model")
    args: dict[str, Any] = setting(  # noqa: RUF009 - as all fields here
        dict, "fields of the model's spec that differ from its row", MODEL_ARGS, name="model_args"
    )
    init: str = setting(
        "default", "initializer: default is the model's, He fan-out", choice("default", "xavier")
    )
    pretrained: Optional[str] = setting(
        None,
        "initial weights: a tag of published ones (bare: the model's default), a weights file, or "
        "a run's folder; their preprocessing becomes the run's",
        PRETRAINED,
        bare="default",
    )
    freeze: tuple[str, ...] = setting(
        (),
        "parameters that are not trained: glob patterns of their names or of the blocks that "
        "contain them; features freezes all but the output",
        NAMES,
    )
    memory_efficient: Union[bool, str] = setting(
        False,
        "recompute activations in the backward pass, with the same result: none, light, balanced "
        "(the default of a bare flag) or most",
        RECOMPUTE,
        bare=True,
    )
    native: bool = setting(
        True,
        "train dense stages with the native CPU operator if there is a C++ compiler; results "
        "differ from MXNet's operators by rounding",
        switch(),
    )


@dataclass(frozen=True)
class TaskConfig(Section):
    """What is learned from the labels."""

    name: str = setting(
        "classification",
        "what is learned: classification; multi_label, several labels per image; or detection",
        text(),
        name="task",
    )
    label_smoothing: float = setting(
        0.0, "share of a target that is spread over all classes", number(0, 1), bare=0.1
    )
    class_weights: Union[str, tuple[float, ...]] = setting(
        "none",
        "weights of the classes in the loss: balanced (inverse to the number of training images, 1 "
        "on average) or a number for each class",
        CLASS_WEIGHTS,
        bare="balanced",
    )
    mixup: float = setting(0.0, "alpha of mixup's Beta distribution; 0 is off", number(), bare=0.2)
    cutmix: float = setting(
        0.0,
        "alpha of CutMix's Beta distribution; with mixup, one of both is drawn for each batch",
        number(),
    )
    mix_off_epochs: int = setting(
        0,
        "last epochs without mixup, CutMix and mosaic",
        count(0),
        flags=("--mixup-off-epoch", "--no-mixup-epochs"),
    )
    teacher: Optional[str] = setting(
        None,
        "network to distill: a run's folder, or published weights such as densenet201.tv_in1k",
        text("FOLDER|NAME"),
    )
    temperature: float = setting(
        20.0, "divisor of the logits in the distillation loss", number(closed="neither")
    )
    hard_weight: float = setting(
        0.5, "weight of the labels in the distillation loss", number(0, 1, "both")
    )
    box_loss: str = setting(
        "l1",
        "detection: loss of a box; l1 is GluonCV's, giou and ciou measure the overlap",
        choice("l1", "giou", "ciou"),
    )
    ignore: float = setting(
        0.7,
        "detection: predictions that overlap a box by more than this IoU are left out of the "
        "loss of the background",
        number(0, 1, "both"),
    )
    match: float = setting(
        1.0,
        "detection: a box is also assigned to anchors whose size has more than this IoU with its "
        "own; 1 assigns it to the best one only, as GluonCV",
        number(0, 1, "both"),
    )
    box_weight: float = setting(1.0, "detection: factor of the loss of boxes", number())
    max_positive_weight: float = setting(
        10.0,
        "multi_label: largest weight of a rare label's positives in the loss, which balances "
        "positives and negatives; 1 is no weights",
        number(1),
    )


SECTIONS: Mapping[str, type[Section]] = {
    "model": ModelConfig,
    "data": DataConfig,
    "task": TaskConfig,
    "optimizer": OptimizerConfig,
    "schedule": ScheduleConfig,
    "runtime": RuntimeConfig,
}

# Unique name of each field -> its section and its name there.
FIELDS: Mapping[str, tuple[str, str]] = {
    "recipe": ("", "recipe"),
    **{
        unique_name(spec): (name, spec.name)
        for name, section in SECTIONS.items()
        for spec in fields(section)
    },
}
