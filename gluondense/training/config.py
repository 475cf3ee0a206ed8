# SPDX-License-Identifier: Apache-2.0
"""The configuration of a training run, made of sections; imports neither MXNet nor NumPy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ..errors import check_known
from .configuration.sections import (
    FIELDS,
    SECTIONS,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    RuntimeConfig,
    ScheduleConfig,
    TaskConfig,
)


@dataclass(frozen=True)
class TrainConfig:
    """A complete training run: with the code and the data, it determines the result.

    :meth:`of` and :meth:`with_fields` take any field by its unique name, the name of its flag:
    ``lr`` is ``config.optimizer.lr``; ``model``, ``task``, ``optimizer`` and ``schedule`` are the
    ``name`` of their sections, and ``model_args`` is ``config.model.args``.

    Parameters
    ----------
    model, data, task, optimizer, schedule, runtime
        The sections.
    recipe
        Name of the recipe that this configuration started from.

    Raises
    ------
    ValueError
        If a field is unknown, a value is out of its range, or sections contradict each other. All
        methods that make a configuration raise it.

    Examples
    --------
    >>> config = TrainConfig.of(model="densenet121", epochs=3)
    >>> config.schedule.epochs, config.data.batch_size
    (3, 128)
    """

    model: ModelConfig
    data: DataConfig = field(default_factory=DataConfig)
    task: TaskConfig = field(default_factory=TaskConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    recipe: str = "default"

    def __post_init__(self) -> None:
        for name, section in SECTIONS.items():
            if not isinstance(getattr(self, name), section):
                raise ValueError(
                    f"{name} (={getattr(self, name)!r}) must be a {section.__name__}: "
                    f"TrainConfig.of({name}=…) takes single fields."
                )
        several = self.data.multi_label
        if self.data.dataset == "folder" and several != (self.task.name == "multi_label"):
            raise ValueError(
                f"`task` {self.task.name!r} does not learn from data with `multi_label` {several}: "
                "they belong together."
            )
        batch, gpus, accumulate = self.data.batch_size, self.runtime.gpus, self.runtime.accumulate
        if len(gpus) > batch:
            raise ValueError(f"batch_size (={batch}) must feed each of {len(gpus)} GPUs.")
        if batch < accumulate * max(len(gpus), 1):
            raise ValueError(
                f"batch_size (={batch}) must have an image for each of the {accumulate} parts of "
                "`accumulate` on each device."
            )

        sizes, epochs = self.data.train_sizes, self.schedule.epochs
        if len(sizes) > epochs:
            names = ",".join(map(str, sizes))
            raise ValueError(f"`train_sizes` (={names}) are more sizes than epochs ({epochs}).")
        if sizes and self.task.name == "detection":
            raise ValueError("`train_sizes` are for classification: detectors have `multi_scale`.")
        if self.data.cache_features:
            self._check_cachable()
        if self.runtime.kvstore == "dist_async":
            # Servers get no later changes, and their learning rate follows the number of updates.
            values = {
                "clip": self.optimizer.clip,
                "optimizer": self.optimizer.name if self.optimizer.name == "adamw" else "",
                "head_epochs": self.schedule.head_epochs,
            }
            for name, value in values.items():
                if value:
                    raise ValueError(
                        f"`{name}` (={value}) doesn't work with kvstore dist_async, whose servers "
                        "update the weights: use dist_sync."
                    )

    def _check_cachable(self) -> None:
        """Raise a ValueError unless the features of an image are the same in each epoch."""
        off: dict[str, Any] = {
            "augment": ",".join(self.data.augment),
            "train_sizes": ",".join(map(str, self.data.train_sizes)),
            "mixup": self.task.mixup,
            "cutmix": self.task.cutmix,
            "head_epochs": self.schedule.head_epochs,
            "teacher": self.task.teacher,
            "kvstore": self.runtime.kvstore if self.runtime.distributed else "",
        }
        for name, value in off.items():
            if value:
                raise ValueError(
                    f"`cache_features` computes the features of an image once, for the output of "
                    f"one process: `{name}` (={value}) doesn't go with it."
                )

    @classmethod
    def of(cls, model: str, **values: Any) -> TrainConfig:
        """Make a configuration from fields by their unique names; the others have defaults."""
        return cls(ModelConfig(model)).with_fields(**values)

    def with_fields(self, **values: Any) -> TrainConfig:
        """Copy the configuration with some fields, by their unique names, changed.

        Examples
        --------
        >>> TrainConfig.of("densenet121").with_fields(epochs=1, lr=0.2).optimizer.lr
        0.2
        """
        changes: dict[str, dict[str, Any]] = defaultdict(dict)
        for name, value in values.items():
            check_known("training field", name, FIELDS)
            section, own_name = FIELDS[name]
            changes[section][own_name] = value
        own = changes.pop("", {})
        sections = {name: replace(getattr(self, name), **part) for name, part in changes.items()}
        return replace(self, **own, **sections)

    def with_model(self, name: str) -> TrainConfig:
        """Copy the configuration with another network, fitted to the size of the images.

        The ``args`` of the previous network are dropped. A stem of stride 4 leaves the stages too
        little of images below 64 pixels, so it becomes ``"half"``, of stride 2.

        Examples
        --------
        >>> TrainConfig.of("densenet121").with_model("dpn68").model.args
        {'stem': 'half'}
        >>> TrainConfig.of("densenet121", resize=96).with_model("dpn68").model.args
        {}
        """
        from ..models.registry import get_spec

        if name == self.model.name:
            return self
        stem = get_spec(name).stem
        small = min(self.data.input_size) < 64 and stem in ("imagenet", "imagenet3")
        return self.with_fields(model=name, model_args={"stem": "half"} if small else {})

    def to_dict(self) -> dict[str, Any]:
        """Return the sections as dictionaries, ready for JSON."""
        return asdict(self)

    def flat(self) -> dict[str, Any]:
        """Return all fields by their unique names."""
        return {
            name: getattr(getattr(self, section) if section else self, own_name)
            for name, (section, own_name) in FIELDS.items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Make a configuration from :meth:`to_dict`, or from :meth:`flat` of earlier versions."""
        known: dict[str, Any] = {}
        for name, value in values.items():
            if name not in SECTIONS or not isinstance(value, Mapping):
                known[name] = value
                continue
            unique = {own: key for key, (section, own) in FIELDS.items() if section == name}
            for own_name, item in value.items():
                check_known(f"field of section {name}", own_name, unique)
                known[unique[own_name]] = item
        if "model" not in known:
            raise ValueError("the configuration names no model.")
        return cls.of(**known)
