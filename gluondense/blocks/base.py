"""What every block stands on: named sequences, BN-ReLU-Conv and Conv-BN-ReLU."""

from __future__ import annotations

from typing import Any, Union

from mxnet.gluon import nn
from mxnet.ndarray import NDArray
from mxnet.symbol import Symbol

Tensor = Union[NDArray, Symbol]


class Chain(nn.HybridSequential):
    """A HybridSequential whose children go by their own prefix instead of a running number.

    ``save_parameters`` keys are attribute paths and exported symbols use prefixes, so naming the
    child after its prefix makes both say the same: ``stage1.layer3.conv1.weight`` in a
    ``.params`` file and ``…stage1_layer3_conv1_weight`` in a symbol.

    Examples
    --------
    >>> chain = Chain(prefix="stem_")
    >>> with chain.name_scope():
    ...     chain.add(nn.Conv2D(8, 3, in_channels=3, prefix="conv_"))
    >>> list(chain._collect_params_with_prefix())
    ['conv.weight', 'conv.bias']
    """

    def add(self, *blocks: nn.HybridBlock) -> None:
        """Append blocks; one whose prefix gives no free name gets its position, as in Gluon."""
        for block in blocks:
            name = block.prefix[len(self.prefix) :].rstrip("_")
            if not block.prefix.startswith(self.prefix) or not name or name in self._children:
                name = str(len(self._children))
            self.register_child(block, name)


# Channels in a block of oneDNN's blocked layouts with AVX-512; with AVX2 it is 8.
ONEDNN_BLOCK = 16


def concat(F: Any, first: Tensor, second: Tensor, width: int) -> Tensor:
    """Concatenate two maps by channels, the first of which has ``width``.

    The backward pass of oneDNN's concatenation cuts a blocked gradient at ``width``. Where that is
    inside a block it stops with "could not construct a sub-memory", or kills the process by SIGFPE
    (MXNet 1.9.1, oneDNN 2.4): no network of growth rate 12 could be trained on a CPU. A detour over
    a fifth axis gives the gradient MXNet's plain layout, which can be cut anywhere.

    Inputs / Outputs
        ``(N, width, H, W)`` and ``(N, C, H, W)`` to ``(N, width + C, H, W)``.
    """
    joined = F.concat(first, second, dim=1)
    if width % ONEDNN_BLOCK == 0:
        return joined
    return F.squeeze(F.expand_dims(joined, axis=4), axis=4)


def norm_act_conv(
    in_channels: int,
    channels: int,
    kernel: int,
    suffix: str = "",
    *,
    strides: int = 1,
    groups: int = 1,
    use_bias: bool = False,
    eps: float = 1e-5,
    dropout: float = 0.0,
) -> list[nn.HybridBlock]:
    """Return ``norm``, ``relu``, ``conv`` and, unless it is 0, ``dropout`` (+ suffix)."""
    layers = [
        nn.BatchNorm(epsilon=eps, in_channels=in_channels, prefix=f"norm{suffix}_"),
        nn.Activation("relu", prefix=f"relu{suffix}_"),
        nn.Conv2D(
            channels,
            kernel,
            strides,
            padding=kernel // 2,
            groups=groups,
            use_bias=use_bias,
            in_channels=in_channels,
            prefix=f"conv{suffix}_",
        ),
    ]
    if dropout:
        layers.append(nn.Dropout(dropout, prefix=f"dropout{suffix}_"))
    return layers


class NormActConv(Chain):
    """BN-ReLU-Conv, the pre-activation unit of all three papers.

    Parameters
    ----------
    in_channels, channels
        Width of the input and of the output.
    kernel
        Side of the square kernel; odd, padded to keep the size.
    **conv
        ``strides``, ``groups``, ``use_bias``, ``eps``, ``dropout`` of :func:`norm_act_conv`.

    Inputs / Outputs
        ``(N, in_channels, H, W)`` to ``(N, channels, H / strides, W / strides)``.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel: int = 1,
        prefix: str | None = None,
        **conv: Any,
    ) -> None:
        super().__init__(prefix=prefix)
        self.out_channels = channels
        with self.name_scope():
            self.add(*norm_act_conv(in_channels, channels, kernel, **conv))


def relu(slope: float, prefix: str) -> nn.HybridBlock:
    """Return a ReLU, a leaky one unless ``slope``, that of its negative half, is 0."""
    return nn.LeakyReLU(slope, prefix=prefix) if slope else nn.Activation("relu", prefix=prefix)


class ConvNormAct(Chain):
    """Conv-BN-ReLU, the post-activation unit of ResNet.

    Parameters
    ----------
    in_channels, channels
        Width of the input and of the output.
    kernel
        Side of the square kernel; odd, padded to keep the size.
    act
        False leaves the ReLU out.
    slope
        Of the negative half of the ReLU; not 0 makes it a leaky one.
    dropout
        Probability of dropping a value behind the unit.

    Inputs / Outputs
        ``(N, in_channels, H, W)`` to ``(N, channels, H / strides, W / strides)``.

    Raises
    ------
    ValueError
        If no channel is left, or the channels do not fall into ``groups``.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel: int = 1,
        *,
        strides: int = 1,
        groups: int = 1,
        act: bool = True,
        slope: float = 0.0,
        eps: float = 1e-5,
        dropout: float = 0.0,
        prefix: str | None = None,
    ) -> None:
        super().__init__(prefix=prefix)
        if channels < 1 or in_channels % groups or channels % groups:
            raise ValueError(
                f"a convolution of {in_channels} to {channels} channels cannot have groups "
                f"(={groups}): choose widths and ratios that leave each group a channel of both."
            )
        self.out_channels = channels
        with self.name_scope():
            self.add(
                nn.Conv2D(
                    channels,
                    kernel,
                    strides,
                    padding=kernel // 2,
                    groups=groups,
                    use_bias=False,
                    in_channels=in_channels,
                    prefix="conv_",
                ),
                nn.BatchNorm(epsilon=eps, in_channels=channels, prefix="norm_"),
            )
            if act:
                self.add(relu(slope, "relu_"))
            if dropout:
                self.add(nn.Dropout(dropout, prefix="dropout_"))
