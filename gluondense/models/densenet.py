# SPDX-License-Identifier: Apache-2.0
"""DenseNet (Huang et al., 2017, "Densely Connected Convolutional Networks")."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from mxnet.gluon import nn

from ..blocks.dense import DenseBlock, Transition
from ..blocks.stem import STEMS
from ..errors import check, check_flag
from .network import Network
from .spec import DenseSpec


@dataclasses.dataclass(frozen=True)
class DenseNetSpec(DenseSpec):
    """A DenseNet; the defaults are those of DenseNet-121.

    Parameters
    ----------
    blur_pool
        Whether the stem's max-pooling is anti-aliased, see :class:`gluondense.blocks.MaxBlurPool`.
    """

    blur_pool: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_flag("blur_pool", self.blur_pool)
        rule = f"False, because stem={self.stem!r} has no max-pooling"
        holds = not self.blur_pool or STEMS[self.stem].pool == "max"
        check("blur_pool", self.blur_pool, rule, holds)

    @property
    def stem_options(self) -> dict[str, Any]:
        """The stem's convolution has a bias if the others have one, and the pooling may blur."""
        return {**super().stem_options, "blur_pool": self.blur_pool}


class DenseNet(Network):
    """Stem, dense blocks with transitions between them, final BN-ReLU.

    Deviations from the paper: the transition has a ReLU, which section 3 does not mention but the
    authors' code has. Table 1 gives k = 32 for all ImageNet networks: ``densenet264`` follows it,
    whereas ``densenet161`` follows the authors' later model. ``densenet264d`` (k = 48) and
    ``densenetblur121d`` are timm's: their stem has three 3x3 convolutions, and the latter blurs
    before it subsamples.

    References
    ----------
    Paper, section 3, Tables 1 and 2; liuzhuang13/DenseNet, ``models/densenet.lua``; timm,
    ``models/densenet.py``.
    """

    spec: DenseNetSpec

    def stages(self, in_channels: int) -> Iterator[nn.HybridBlock]:
        """Yield dense blocks and the transitions between them."""
        spec, channels = self.spec, in_channels
        rates = spec.drop_path_rates(spec.block_config)
        for index, num_layers in enumerate(spec.block_config, start=1):
            block = DenseBlock(
                channels,
                num_layers,
                spec.growth_rate,
                spec.bn_size,
                spec.attention,
                drop_path=rates[index - 1],
                prefix=f"stage{index}_",
                **spec.conv,
            )
            yield block
            channels = block.out_channels
            if index < len(spec.block_config):
                width = int(channels * spec.compression)
                yield Transition(channels, width, prefix=f"transition{index}_", **spec.conv)
                channels = width


def _cifar(depth: int, growth_rate: int, bottleneck: bool, classes: int) -> DenseNetSpec:
    """Return a three-stage network: section 3, "Implementation Details", and Table 2."""
    layers = (depth - 4) // 3 // (2 if bottleneck else 1)
    return DenseNetSpec(
        stem="cifar",
        num_init_features=2 * growth_rate if bottleneck else 16,
        growth_rate=growth_rate,
        block_config=(layers,) * 3,
        bn_size=4 if bottleneck else 0,
        compression=0.5 if bottleneck else 1.0,
        classes=classes,
    )


_CIFAR_ROWS = [  # depth, k, whether BC
    (40, 12, False),
    (40, 12, True),
    (100, 12, False),
    (100, 24, False),
    (100, 12, True),
    (250, 24, True),
    (190, 40, True),
]

SPECS = {
    "densenet121": DenseNetSpec(),
    "densenet161": DenseNetSpec(num_init_features=96, growth_rate=48, block_config=(6, 12, 36, 24)),
    "densenet169": DenseNetSpec(block_config=(6, 12, 32, 32)),
    "densenet201": DenseNetSpec(block_config=(6, 12, 48, 32)),
    "densenet264": DenseNetSpec(block_config=(6, 12, 64, 48)),
    "densenet264d": DenseNetSpec(
        stem="deep", num_init_features=96, growth_rate=48, block_config=(6, 12, 64, 48)
    ),
    "densenetblur121d": DenseNetSpec(stem="deep", blur_pool=True),
    **{
        f"densenet{depth}_k{k}{'_bc' if bc else ''}_{data}": _cifar(depth, k, bc, classes)
        for depth, k, bc in _CIFAR_ROWS
        for data, classes in (("cifar10", 10), ("cifar100", 100), ("svhn", 10))
    },
    # Seed 002's network exactly: no bottleneck, and not the stem padding of the papers.
    "densenet_tutorial": DenseNetSpec(
        stem="tutorial",
        block_config=(4, 4, 4, 4),
        bn_size=0,
        use_bias=True,
        classes=10,
        in_channels=1,
    ),
}
