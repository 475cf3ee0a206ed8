# SPDX-License-Identifier: Apache-2.0
"""PeleeNet (Wang et al., 2018, "Pelee") and CSP-PeleeNet (Wang et al., 2019, "CSPNet").

The widths of CSP-PeleeNet are not published, so gluondense defines them. With c input channels of a
stage of L layers, c' = floor(gamma c) bypass it, and c'' = c - c':

- T is Conv1x1-BN-ReLU on [x0'', x1 … xL] and keeps the width c'' + L k;
- U is Conv1x1-BN-ReLU on [x0', xT] and keeps the width c + L k, PeleeNet's;
- 2x2 average pooling precedes U, where in PeleeNet it follows the transition.

Darknet's configuration files also keep both widths. This gives 2.86M parameters and 0.892 billion
operations (two a multiply-add) at 224, where the authors' README has 2.83M and 0.888; with the
pooling behind U it would be 1.12. The paper's ImageNet results are those of the authors' network.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import Any

from mxnet.gluon import nn

from ..blocks.base import ConvNormAct
from ..blocks.csp import CSPStage
from ..blocks.pelee import PeleeTransition, TwoWayBlock
from ..errors import check, check_count, check_counts, check_range
from .network import Network
from .spec import NetworkSpec


@dataclasses.dataclass(frozen=True)
class PeleeNetSpec(NetworkSpec):
    """A PeleeNet; the defaults are those of PeleeNet itself.

    Parameters
    ----------
    growth_rate
        k, the number of feature maps that each layer adds, at least 2.
    block_config
        Number of layers of each stage.
    bn_sizes
        Width of the 1x1 convolutions of each stage's layers in units of k / 2.
    partial_ratio
        gamma in [0, 1), the ratio of channels that bypass the dense layers; 0 for PeleeNet.
    stem, num_init_features, final_norm
        The paper's stem block, of 32 channels; no BN-ReLU at the end, because one follows each
        convolution.
    """

    stem: str = "pelee"
    num_init_features: int = 32
    final_norm: bool = False
    growth_rate: int = 32
    block_config: tuple[int, ...] = (3, 4, 8, 6)
    bn_sizes: tuple[int, ...] = (1, 2, 4, 4)
    partial_ratio: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("growth_rate", self.growth_rate, least=2)
        check_counts("block_config", self.block_config)
        check_counts("bn_sizes", self.bn_sizes)
        rule = f"as long as block_config (={self.block_config})"
        check("bn_sizes", self.bn_sizes, rule, len(self.bn_sizes) == len(self.block_config))
        check_range("partial_ratio", self.partial_ratio, 0, 1, closed="left")
        rule = "None or 'se' without a partial_ratio, because there is one path"
        check("attention", self.attention, rule, self.attention != "path" or self.partial_ratio > 0)

    @property
    def stem_options(self) -> dict[str, Any]:
        """Every stem ends with BN-ReLU, because the first stage does not begin with it."""
        return {"norm": True}


class PeleeNet(Network):
    """Stem block, two-way dense blocks, transitions that keep the width, one of them at the end.

    Deviations from the authors' code: the stem's max-pooling rounds odd sizes up, as in their Caffe
    network; there is no dropout unless ``dropout`` is set.

    References
    ----------
    Pelee, section 2.1, Table 1; Robert-JunWang/PeleeNet, ``peleenet.py``; CSPNet, Fig. 3b.
    """

    spec: PeleeNetSpec

    def stages(self, in_channels: int) -> Iterator[nn.HybridBlock]:
        """Yield dense blocks, or CSP stages of them, each followed by a transition."""
        spec, channels = self.spec, in_channels
        unit: dict[str, Any] = {
            "eps": spec.eps,
            "dropout": spec.dropout,
            "dropout_after": spec.dropout_after,
        }
        se = "se" if spec.attention == "se" else None
        rates = spec.drop_path_rates(spec.block_config)
        for index, (bn_size, drop_path) in enumerate(zip(spec.bn_sizes, rates), start=1):
            block: Any = partial(
                TwoWayBlock,
                growth_rate=spec.growth_rate,
                bn_size=bn_size,
                drop_path=drop_path,
                attention=se,
                **unit,
            )
            stage = self._csp(channels, block, unit, f"stage{index}_")
            yield stage
            channels = stage.out_channels
            pool = "first" if spec.partial_ratio else "last"
            place: dict[str, Any] = {"prefix": f"transition{index}_"}
            place["pool"] = None if index == len(spec.block_config) else pool
            yield PeleeTransition(channels, **place, **unit)

    def _csp(
        self, channels: int, block: Any, unit: dict[str, Any], prefix: str
    ) -> TwoWayBlock | CSPStage:
        """Return the dense block, as a cross-stage partial one if ``partial_ratio`` is not 0."""
        spec = self.spec
        if not spec.partial_ratio:
            return block(channels, prefix=prefix)

        def first_transition(in_channels: int, prefix: str) -> ConvNormAct:
            return ConvNormAct(in_channels, in_channels, prefix=prefix, **unit)

        path = "path" if spec.attention == "path" else None
        return CSPStage(channels, block, first_transition, spec.partial_ratio, path, prefix=prefix)


SPECS = {"peleenet": PeleeNetSpec(), "csp_peleenet": PeleeNetSpec(partial_ratio=0.5)}
