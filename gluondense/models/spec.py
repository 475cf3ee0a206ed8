# SPDX-License-Identifier: Apache-2.0
"""The fields that the specs of several families share."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

from ..blocks.attention import ATTENTION
from ..blocks.dropout import DROPOUT_AFTER
from ..blocks.head import POOLS
from ..blocks.stem import STEMS
from ..errors import check_choice, check_count, check_counts, check_flag, check_range
from ..graph.channels_last import LAYOUTS


@dataclasses.dataclass(frozen=True)
class NetworkSpec:
    """The fields of every network.

    Specs are hashable and can be rebuilt from their JSON.

    Parameters
    ----------
    classes
        Number of outputs. 0 omits the classifier: the network returns the pooled features (N, C).
    in_channels
        Channels of the image.
    stem
        A key of ``gluondense.blocks.STEMS``: ``"imagenet"`` (stride 4), ``"cifar"`` (stride 1) …
    num_init_features
        Width of the stem.
    dropout
        Dropout probability in [0, 1) after convolutions of a stage or transition, except DPN's
        projections.
    dropout_after
        ``"conv"``: dropout after each of these convolutions, as in the paper. ``"3x3"``: after 3x3
        convolutions only, as in the ports of DenseNet to PyTorch and Gluon.
    drop_path
        Stochastic depth: probability in [0, 1) that an image skips the last block in training. It
        rises linearly over all blocks from 0 for the first, as in timm. A block that is skipped
        adds 0 to its residual path and appends zeros to its dense path; otherwise what it adds and
        appends is divided by 1 - p. Blocks are dense layers, residual and dual-path blocks; no
        paper applies it to the last two's dense paths.
    eps
        Added to the variance in every batch normalization.
    attention
        None, ``"se"`` (squeeze-and-excitation) or ``"path"`` (learned weights for the two paths).
    final_norm
        Whether the last stage is followed by BN-ReLU before the pooling.
    pool
        ``"avg"``, or ``"mean_max"`` for tests at sizes above the training size.
    layout
        Memory layout of the feature maps in float16 on a GPU, ``"NCHW"`` or ``"NHWC"``, which its
        tensor cores compute. Everything else is independent of it: inputs are (N, C, H, W),
        parameters have one shape, and CPUs, float32 and exports use NCHW. So one file of weights
        serves both layouts.

    Raises
    ------
    ValueError
        If a field is outside its range.
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
    dropout_after: str = "conv"
    drop_path: float = 0.0
    layout: str = "NCHW"

    def __post_init__(self) -> None:
        """Check the fields; convert lists, which JSON has, to tuples."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list):
                object.__setattr__(self, field.name, tuple(value))
        check_count("classes", self.classes, least=0)
        for name in ("in_channels", "num_init_features"):
            check_count(name, getattr(self, name))
        check_choice("stem", self.stem, STEMS)
        check_range("dropout", self.dropout, 0, 1, closed="left")
        check_choice("dropout_after", self.dropout_after, DROPOUT_AFTER)
        check_range("drop_path", self.drop_path, 0, 1, closed="left")
        check_range("eps", self.eps, 0, closed="neither")
        check_choice("attention", self.attention, ATTENTION)
        check_flag("final_norm", self.final_norm)
        check_choice("pool", self.pool, POOLS)
        check_choice("layout", self.layout, LAYOUTS)
        if self.pool == "mean_max" and not self.classes:
            raise ValueError("pool='mean_max' pools the logits, which classes=0 omits: use 'avg'.")

    @property
    def stem_options(self) -> dict[str, Any]:
        """Arguments of the stem that follow from the family."""
        return {}

    @property
    def final_act(self) -> str:
        """The activation after the last batch normalization."""
        return "relu"

    def function_fields(self) -> dict[str, Any]:
        """Return the fields that determine what the network computes: all but the layout."""
        fields = dataclasses.asdict(self)
        del fields["layout"]
        return fields

    @property
    def is_stochastic(self) -> bool:
        """Whether training draws random numbers in the network."""
        return bool(self.dropout or self.drop_path)

    def drop_path_rates(self, counts: Sequence[int]) -> list[tuple[float, ...]]:
        """Return the rate of ``drop_path`` of each block, a tuple for each stage of ``counts``.

        Examples
        --------
        >>> NetworkSpec(drop_path=0.75).drop_path_rates((2, 2))
        [(0.0, 0.25), (0.5, 0.75)]
        """
        total = sum(counts)
        if self.drop_path and total < 2:
            raise ValueError(
                f"drop_path (={self.drop_path}) is 0 for the first block, and there is no other: "
                "leave it out, or build a deeper network."
            )
        rates = iter([self.drop_path * index / max(1, total - 1) for index in range(total)])
        return [tuple(itertools.islice(rates, count)) for count in counts]


@dataclasses.dataclass(frozen=True)
class DenseSpec(NetworkSpec):
    """The fields of all networks with dense layers; the defaults are those of DenseNet-121.

    Parameters
    ----------
    growth_rate
        k, the number of feature maps that each layer adds.
    block_config
        Number of layers of each stage.
    bn_size
        Width of the bottleneck in units of k; 0 for none (DenseNet without the B).
    compression
        theta in (0, 1], the ratio of channels that a transition keeps (1: DenseNet without the C).
    use_bias
        Whether the convolutions have a bias (the d2l.ai tutorial's network only).
    """

    growth_rate: int = 32
    block_config: tuple[int, ...] = (6, 12, 24, 16)
    bn_size: int = 4
    compression: float = 0.5
    use_bias: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("growth_rate", self.growth_rate)
        check_counts("block_config", self.block_config)
        check_count("bn_size", self.bn_size, least=0)
        check_range("compression", self.compression, 0, 1, closed="right")
        check_flag("use_bias", self.use_bias)

    @property
    def conv(self) -> dict[str, Any]:
        """Arguments that every BN-ReLU-Conv of the network has."""
        dropout = {"dropout": self.dropout, "dropout_after": self.dropout_after}
        return {"use_bias": self.use_bias, "eps": self.eps, **dropout}

    @property
    def stem_options(self) -> dict[str, Any]:
        """The stem's convolution has a bias if the others have one."""
        return {"use_bias": self.use_bias}
