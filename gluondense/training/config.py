"""What one training run does, as a frozen row."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Optional, Union

from ..data import DATASETS
from ..errors import closest
from ..graph.recompute import find_policy
from ..models import get_spec

SCHEDULES = ("constant", "cosine", "poly", "step")
OPTIMIZERS = ("sgd", "nag")
DTYPES = ("float32", "float16", "bfloat16")
INITIALIZERS = ("default", "xavier")
# MXNet takes any other name too, "horovod" and misspellings among them, and then trains alone.
KVSTORES = ("local", "device", "dist_sync", "dist_sync_device", "dist_async")


@dataclass(frozen=True)
class TrainConfig:
    """One training run, complete: with the code and the data it determines the result.

    Parameters
    ----------
    model
        Registry name, see :func:`gluondense.list_models`.
    model_args
        Spec fields that differ from the model's row, e.g. ``{"dropout": 0.2}``.
    recipe
        Name of the row of ``RECIPES`` that this configuration started from.
    dataset
        Row of ``DATASETS``.
    data_dir
        Folder with the data set's files; None looks in MXNet's folder.
    download
        Whether missing files may be fetched.
    resize
        Side in pixels that images are resized to; None keeps their size.
    normalize
        Whether pixels are normalised by the data set's mean and std (else they stay in [0, 1]).
    augment
        Names of ``AUGMENTATIONS``, applied in this order to training images.
    epochs, batch_size
        Length of the run, and images a step over all devices of all workers.
    accumulate
        Parts that a step's batch is cut into on each device, one after the other, to save memory;
        their gradients are added up. BatchNorm sees each part alone.
    memory_efficient
        Whether backward computes maps again instead of keeping them: True, or a key of
        ``gluondense.graph.recompute.POLICIES``. The result is the same.
    drop_last
        Whether a ragged last batch is left out of training (it would re-plan the static graph).
    optimizer, lr, momentum, wd
        ``"sgd"`` or ``"nag"`` (Nesterov), peak learning rate, momentum, and weight decay.
    no_decay_bn
        Whether gamma, beta and bias are spared the weight decay.
    schedule, warmup_epochs
        Shape of the learning rate after a linear warm-up of so many epochs (may be a fraction).
    lr_steps, lr_decay
        For ``"step"``: fractions of the run at which the rate is multiplied by ``lr_decay``.
    label_smoothing, mixup
        Share of the target spread over all classes; alpha of mixup's Beta distribution (0 is off).
    init
        ``"default"`` (the model's own, He fan-out) or ``"xavier"``.
    seed
        Source of every random stream, together with the epoch.
    gpus
        Device numbers; empty trains on the CPU.
    dtype
        What convolutions compute in: ``"float32"``, ``"float16"`` (GPUs) or ``"bfloat16"`` (CPUs).
        Parameters stay in float32; float16 has a dynamic loss scale.
    sync_bn
        Whether batch normalization takes its statistics from all devices of the process together.
    native
        Whether a CPU trains dense stages with the native operator, if there is a C++ compiler.
        False gives MXNet's own operators, whose results differ by rounding.
    kvstore
        How devices and machines add up their gradients: one of ``KVSTORES``, MXNet's names.
    compression
        Threshold of the 2-bit gradients that workers send (0 sends them whole).

    rec_train, rec_val, ground_truth
        Of ``"imagenet"``: RecordIO files in place of ``data_dir``'s folders, and the answers of a
        flat validation folder.
    crop_ratio, interpolation
        Of its test images: see :class:`.EvalTransform`.
    bad_images
        Of its images that can't be read: ``"skip"`` names them, ``"error"`` stops.
    data_workers
        Processes that prepare its images; they don't change the result.
    warmup_lr
        Learning rate that the warm-up starts from; None starts it one step up.
    cutmix, mix_off_epochs
        Alpha of CutMix's Beta distribution (0 is off; with ``mixup`` a coin decides); last epochs
        without either.
    ema
        Decay a step of the moving average of the weights, which is evaluated then (0 is off).
    teacher, temperature, hard_weight
        A network to learn from, see :func:`.distill.load_teacher`; what its logits are divided by,
        and the share of the loss that the labels keep.
    save_steps, keep_checkpoints
        Steps between checkpoints within an epoch (0 is every five minutes), and how many to keep,
        the best one not among them.
    tensorboard, log_interval
        Whether to write event files, and steps between the log's lines (0: only epochs have some).

    Raises
    ------
    ValueError
        If a field is outside its range.

    Examples
    --------
    >>> TrainConfig(model="densenet121", epochs=3).batch_size
    128
    """

    model: str
    model_args: dict[str, Any] = field(default_factory=dict)
    recipe: str = "default"
    dataset: str = "fashion_mnist"
    data_dir: Optional[str] = None
    download: bool = True
    resize: Optional[int] = None
    normalize: bool = True
    augment: tuple[str, ...] = ()
    epochs: int = 10
    batch_size: int = 128
    accumulate: int = 1
    memory_efficient: Union[bool, str] = False
    drop_last: bool = True
    optimizer: str = "nag"
    lr: float = 0.1
    momentum: float = 0.9
    wd: float = 5e-4
    no_decay_bn: bool = False
    schedule: str = "cosine"
    warmup_epochs: float = 0.0
    lr_steps: tuple[float, ...] = (0.5, 0.75)
    lr_decay: float = 0.1
    label_smoothing: float = 0.0
    mixup: float = 0.0
    init: str = "default"
    seed: int = 0
    gpus: tuple[int, ...] = ()
    dtype: str = "float32"
    sync_bn: bool = False
    native: bool = True
    kvstore: str = "device"
    compression: float = 0.0
    rec_train: Optional[str] = None
    rec_val: Optional[str] = None
    ground_truth: Optional[str] = None
    crop_ratio: float = 0.875
    interpolation: str = "bilinear"
    bad_images: str = "skip"
    data_workers: int = 4
    warmup_lr: Optional[float] = None
    cutmix: float = 0.0
    mix_off_epochs: int = 0
    ema: float = 0.0
    teacher: Optional[str] = None
    temperature: float = 20.0
    hard_weight: float = 0.5
    save_steps: int = 0
    keep_checkpoints: int = 1
    tensorboard: bool = False
    log_interval: int = 0

    def __post_init__(self) -> None:
        for name in ("augment", "lr_steps", "gpus"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        args = {name: tuples(value) for name, value in self.model_args.items()}
        object.__setattr__(self, "model_args", args)
        _check_whole(self, "epochs", 1)
        _check_whole(self, "batch_size", 1)
        _check_whole(self, "seed", 0)
        _check_whole(self, "accumulate", 1)
        find_policy(self.memory_efficient)
        if self.resize is not None:
            _check_whole(self, "resize", 1)
        _check_range(self, "lr", 0, float("inf"), open_low=True)
        _check_range(self, "momentum", 0, 1)
        _check_range(self, "wd", 0, float("inf"))
        _check_range(self, "warmup_epochs", 0, self.epochs + 1e-9)
        _check_range(self, "label_smoothing", 0, 1)
        _check_range(self, "mixup", 0, float("inf"))
        _check_range(self, "cutmix", 0, float("inf"))
        _check_range(self, "ema", 0, 1)
        _check_range(self, "temperature", 0, float("inf"), open_low=True)
        _check_range(self, "hard_weight", 0, 1 + 1e-9)
        if self.warmup_lr is not None:
            _check_range(self, "warmup_lr", 0, float("inf"))
        for name, low in (
            ("data_workers", 0),
            ("save_steps", 0),
            ("mix_off_epochs", 0),
            ("log_interval", 0),
        ):
            _check_whole(self, name, low)
        _check_whole(self, "keep_checkpoints", 1)
        _check_range(self, "lr_decay", 0, 1, open_low=True)
        _check_choice(self, "schedule", SCHEDULES)
        _check_choice(self, "optimizer", OPTIMIZERS)
        _check_choice(self, "init", INITIALIZERS)
        _check_choice(self, "dtype", DTYPES)
        _check_choice(self, "kvstore", KVSTORES)
        _check_range(self, "compression", 0, float("inf"))
        if self.compression and not self.kvstore.startswith("dist"):
            raise ValueError(
                f"`compression` (={self.compression}) is of what workers send each other: it needs "
                f"`kvstore` dist_sync, dist_sync_device or dist_async, not {self.kvstore!r}."
            )
        if self.dtype == "float16" and (self.compression or self.kvstore == "dist_async"):
            raise ValueError(
                "`dtype` float16 changes the scale of its gradients as it goes, which servers with "
                "`compression` or dist_async don't follow: use dist_sync alone, or bfloat16."
            )
        if len(set(self.gpus)) != len(self.gpus) or any(gpu < 0 for gpu in self.gpus):
            raise ValueError(f"`gpus` must be different numbers from 0 up, got {self.gpus}.")
        if len(self.gpus) > self.batch_size:
            raise ValueError(
                f"`batch_size` (={self.batch_size}) must feed each of {len(self.gpus)} GPUs."
            )
        if self.batch_size < self.accumulate * max(len(self.gpus), 1):
            raise ValueError(
                f"`batch_size` (={self.batch_size}) must have an image for each of the "
                f"{self.accumulate} parts of `accumulate` on each device."
            )
        fixed = sorted({"classes", "in_channels"} & set(self.model_args))
        if fixed:
            raise ValueError(f"`{fixed[0]}` follows from the data set; leave it out of model_args.")

    def with_model(self, name: str) -> TrainConfig:
        """Copy the configuration with another network, fitted to the size of the images.

        The recipe's ``model_args`` belong to its own network and go. On images below 64 pixels a
        stem of stride 4 would leave the stages almost nothing, so it becomes ``"half"``, of stride
        2.

        Parameters
        ----------
        name
            Registry name.

        Raises
        ------
        ValueError
            If there is no such network.

        Examples
        --------
        >>> TrainConfig(model="densenet121").with_model("dpn68").model_args
        {'stem': 'half'}
        >>> TrainConfig(model="densenet121", resize=96).with_model("dpn68").model_args
        {}
        """
        if name == self.model:
            return self
        side = self.resize or min(DATASETS[self.dataset].image_size)
        small = side < 64 and get_spec(name).stem in ("imagenet", "imagenet3")
        return replace(self, model=name, model_args={"stem": "half"} if small else {})

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of what the network sees."""
        native = DATASETS[self.dataset].image_size
        return native if self.resize is None else (self.resize, self.resize)

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainConfig:
        """Make the configuration that ``to_dict`` wrote.

        Raises
        ------
        ValueError
            If a field is unknown.
        """
        return cls(**_known(values))

    def with_fields(self, **values: Any) -> TrainConfig:
        """Copy the configuration with some fields changed.

        Raises
        ------
        ValueError
            If a field is unknown or its value is out of range.

        Examples
        --------
        >>> TrainConfig(model="densenet121").with_fields(epochs=1).epochs
        1
        """
        return replace(self, **_known(values))


def tuples(value: Any) -> Any:
    """Turn lists, which JSON makes of tuples, into tuples again.

    Examples
    --------
    >>> tuples([1, [2, 3]])
    (1, (2, 3))
    """
    return tuple(map(tuples, value)) if isinstance(value, (list, tuple)) else value


def _known(values: dict[str, Any]) -> dict[str, Any]:
    names = [f.name for f in fields(TrainConfig)]
    for name in values:
        if name not in names:
            raise ValueError(
                f"Unknown training field {name!r}{closest(name, names)} "
                f"(fields: {', '.join(names)})."
            )
    return values


def _check_whole(config: TrainConfig, name: str, low: int) -> None:
    value = getattr(config, name)
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ValueError(f"`{name}` must be a whole number from {low} up, got {value!r}.")


def _check_range(
    config: TrainConfig, name: str, low: float, high: float, open_low: bool = False
) -> None:
    value = getattr(config, name)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not low <= value < high or (open_low and value == low):
        bounds = f"{'>' if open_low else '>='} {low}" + (
            f" and < {high:g}" * (high != float("inf"))
        )
        raise ValueError(f"`{name}` must be {bounds}, got {value!r}.")


def _check_choice(config: TrainConfig, name: str, choices: tuple[str, ...]) -> None:
    value = getattr(config, name)
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {', '.join(choices)}, got {value!r}.")
