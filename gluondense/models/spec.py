"""What the specs of all families share."""

from __future__ import annotations

import dataclasses
from typing import Any

from ..blocks import ATTENTION, POOLS, STEMS
from ..errors import check, check_choice, check_counts, is_count, is_number


@dataclasses.dataclass(frozen=True)
class NetworkSpec:
    """The fields that every network has.

    Parameters
    ----------
    classes
        Number of outputs.
    in_channels
        Channels of the image.
    stem
        A key of ``gluondense.blocks.STEMS``: ``"imagenet"`` (stride 4), ``"cifar"`` (stride 1) …
    num_init_features
        Width of the stem.
    dropout
        Probability in [0, 1) of dropping a value behind each convolution of a stage or transition,
        but for DPN's projections.
    eps
        Added to the variance in every batch normalization.
    attention
        None, ``"se"`` (squeeze-and-excitation) or ``"path"`` (learned weights for the two paths).
    final_norm
        Whether BN-ReLU stands between the last stage and the pooling.
    pool
        ``"avg"``, or ``"mean_max"`` for testing at sizes above the training size.
    """

    classes: int = 1000
    in_channels: int = 3
    stem: str = "imagenet"
    num_init_features: int = 64
    dropout: float = 0.0
    eps: float = 1e-5
    attention: str | None = None
    final_norm: bool = True
    pool: str = "avg"

    def __post_init__(self) -> None:
        """Check the fields; a list (as JSON gives) becomes a tuple."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list):
                object.__setattr__(self, field.name, tuple(value))
        for name in ("classes", "in_channels", "num_init_features"):
            value = getattr(self, name)
            check(name, value, "a positive integer", is_count(value))
        check_choice("stem", self.stem, STEMS)
        check(
            "dropout", self.dropout, "in [0, 1)", is_number(self.dropout) and 0 <= self.dropout < 1
        )
        check("eps", self.eps, "a positive number", is_number(self.eps) and self.eps > 0)
        check_choice("attention", self.attention, ATTENTION)
        check("final_norm", self.final_norm, "True or False", isinstance(self.final_norm, bool))
        check_choice("pool", self.pool, POOLS)

    @property
    def stem_options(self) -> dict[str, Any]:
        """What the family asks of its stem beyond the fields that all specs have."""
        return {}


@dataclasses.dataclass(frozen=True)
class DenseSpec(NetworkSpec):
    """The fields of all networks of dense layers; the defaults are DenseNet-121's.

    Parameters
    ----------
    growth_rate
        k, the maps that each layer adds.
    block_config
        Number of layers of each stage.
    bn_size
        Width of the bottleneck in units of k; 0 for none (DenseNet without the B).
    compression
        theta in (0, 1], the part of the channels that a transition keeps (1: DenseNet without
        the C).
    use_bias
        Whether the convolutions have a bias (seed 002's tutorial only).
    """

    growth_rate: int = 32
    block_config: tuple[int, ...] = (6, 12, 24, 16)
    bn_size: int = 4
    compression: float = 0.5
    use_bias: bool = False

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        check("growth_rate", self.growth_rate, "a positive integer", is_count(self.growth_rate))
        check_counts("block_config", self.block_config)
        check("bn_size", self.bn_size, "an integer >= 0", is_count(self.bn_size, least=0))
        theta = self.compression
        check("compression", theta, "in (0, 1]", is_number(theta) and 0 < theta <= 1)
        check("use_bias", self.use_bias, "True or False", isinstance(self.use_bias, bool))

    @property
    def conv(self) -> dict[str, Any]:
        """What every BN-ReLU-Conv of the network shares."""
        return {"use_bias": self.use_bias, "eps": self.eps, "dropout": self.dropout}

    @property
    def stem_options(self) -> dict[str, Any]:
        """The stem's convolution has a bias where the others have."""
        return {"use_bias": self.use_bias}
