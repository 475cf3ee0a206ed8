# SPDX-License-Identifier: Apache-2.0
"""RDNet (Kim et al., 2024, "DenseNets Reloaded: Paradigm Shift Beyond ResNets and ViTs")."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from mxnet.gluon import nn

from ..blocks.base import Chain
from ..blocks.mixer import MixingBlock
from ..blocks.norm import ChannelNorm
from ..errors import check, check_choice, check_count, check_counts, check_range
from .network import Network
from .spec import NetworkSpec


@dataclasses.dataclass(frozen=True)
class RDNetSpec(NetworkSpec):
    """An RDNet; the defaults are those of RDNet-T.

    ``attention``, ``final_norm`` and ``pool`` have one valid value each; ``dropout_after`` has no
    effect, as dropout follows each mixer.

    Parameters
    ----------
    num_blocks, growth_rates
        Number of mixing blocks, and k, of each stage.
    num_layers
        Number of feature mixers of a mixing block.
    compression
        theta in (0, 1], the ratio of channels that a transition keeps.
    squeeze_excite_from
        The first stage whose mixers have effective squeeze-and-excitation.
    """

    stem: str = "patch4"
    eps: float = 1e-6
    final_norm: bool = False
    num_blocks: tuple[int, ...] = (1, 1, 4, 1)
    growth_rates: tuple[int, ...] = (64, 104, 128, 224)
    num_layers: int = 3
    compression: float = 0.5
    squeeze_excite_from: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("num_blocks", "growth_rates"):
            check_counts(name, getattr(self, name))
        rates, rule = self.growth_rates, f"as long as num_blocks (={self.num_blocks})"
        check("growth_rates", rates, rule, len(rates) == len(self.num_blocks))
        for name in ("num_layers", "squeeze_excite_from"):
            check_count(name, getattr(self, name))
        check_range("compression", self.compression, 0, 1, closed="right")
        for name in ("attention", "final_norm", "pool"):
            check_choice(name, getattr(self, name), [getattr(type(self), name)])

    @property
    def stem_options(self) -> dict[str, Any]:
        """Every stem ends with layer normalization, and its convolution has a bias."""
        return {"norm": "layer", "use_bias": True}


class RDNet(Network):
    """Stem, stages of mixing blocks, global pooling, layer normalization.

    The rows are equivalent to timm's networks. Blocks are numbered through the network, as there.

    References
    ----------
    Paper, sections 3.2 and 4; timm, ``models/rdnet.py``.
    """

    spec: RDNetSpec

    def stages(self, in_channels: int) -> Iterator[nn.HybridBlock]:
        """Yield the stages; sizes halve from the second stage on."""
        spec, number = self.spec, 0
        rates = spec.drop_path_rates([spec.num_layers] * sum(spec.num_blocks))
        for index, (count, growth_rate) in enumerate(zip(spec.num_blocks, spec.growth_rates), 1):
            stage = Chain(prefix=f"stage{index}_")
            stage.strides = 1 if index == 1 else 2
            mixer: dict[str, Any] = {"eps": spec.eps, "dropout": spec.dropout}
            mixer["squeeze_excite"] = index >= spec.squeeze_excite_from
            with stage.name_scope():
                for strides in (stage.strides, *[1] * (count - 1)):
                    number += 1
                    place: dict[str, Any] = {"strides": strides, "prefix": f"block{number}_"}
                    place["compression"] = spec.compression if number > 1 else 0
                    rate = rates[number - 1]
                    block = MixingBlock(in_channels, growth_rate, rate, **place, **mixer)
                    stage.add(block)
                    in_channels = stage.out_channels = block.out_channels
            yield stage

    def after_pooling(self) -> list[nn.HybridBlock]:
        """Return the layer normalization of the pooled features."""
        return [ChannelNorm(self.out_channels, self.spec.eps, prefix="norm_")]


_ROWS = {  # size: num_init_features, num_blocks, growth_rates
    "tiny": (64, (1, 1, 4, 1), (64, 104, 128, 224)),
    "small": (72, (1, 1, 7, 2), (64, 128, 128, 240)),
    "base": (120, (1, 1, 7, 2), (96, 128, 168, 336)),
    "large": (144, (1, 1, 8, 2), (128, 192, 256, 360)),
}

SPECS = {
    f"rdnet_{size}": RDNetSpec(num_init_features=init, num_blocks=blocks, growth_rates=rates)
    for size, (init, blocks, rates) in _ROWS.items()
}
