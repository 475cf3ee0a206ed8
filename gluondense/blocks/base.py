# SPDX-License-Identifier: Apache-2.0
"""Building blocks of all networks: named sequences, BN-ReLU-Conv and Conv-BN-ReLU."""

from __future__ import annotations

from typing import Any, Union

from mxnet.gluon import nn
from mxnet.ndarray import NDArray
from mxnet.symbol import Symbol

from .dropout import dropout_layers
from .norm import batch_norm

Tensor = Union[NDArray, Symbol]


class Chain(nn.HybridSequential):
    """A HybridSequential that names its children by their prefix instead of their position.

    ``save_parameters`` writes attribute paths and exported symbols contain prefixes. With this
    class they correspond: ``stage1.layer3.conv1.weight`` in a ``.params`` file and
    ``…stage1_layer3_conv1_weight`` in a symbol.

    Examples
    --------
    >>> chain = Chain(prefix="stem_")
    >>> with chain.name_scope():
    ...     chain.add(nn.Conv2D(8, 3, in_channels=3, prefix="conv_"))
    >>> list(chain._collect_params_with_prefix())
    ['conv.weight', 'conv.bias']
    """

    def add(self, *blocks: nn.HybridBlock) -> None:
        """Append blocks; a block whose prefix gives no free name is named by its position."""
        for block in blocks:
            name = block.prefix[len(self.prefix) :].rstrip("_")
            if not block.prefix.startswith(self.prefix) or not name or name in self._children:
                name = str(len(self._children))
            self.register_child(block, name)

    def output_size(self, size: int) -> int:
        """Return the height (or width) of the output for an input of ``size``; < 1 if too small.

        Blocks without this method keep the size.
        """
        for block in self:
            size = block.output_size(size) if hasattr(block, "output_size") else size
        return size


# Channels per block of oneDNN's blocked layouts with AVX-512; 8 with AVX2.
ONEDNN_BLOCK = 16


def concat(F: Any, first: Tensor, second: Tensor, width: int) -> Tensor:
    """Concatenate two feature maps along the channels; ``first`` has ``width`` channels.

    The backward pass of oneDNN's concatenation splits a blocked gradient at ``width``. If that is
    inside a block, it raises "could not construct a sub-memory" or ends the process with SIGFPE
    (MXNet 1.9.1, oneDNN 2.4), so that networks of growth rate 12 cannot be trained on a CPU. In
    that case a fifth axis is added and removed, which gives the gradient MXNet's plain layout.

    Inputs / Outputs
        ``(N, width, H, W)`` and ``(N, C, H, W)`` to ``(N, width + C, H, W)``.
    """
    joined = F.concat(first, second, dim=1)
    if width % ONEDNN_BLOCK == 0:
        return joined
    return F.squeeze(F.expand_dims(joined, axis=4), axis=4)


def conv2d(
    in_channels: int, channels: int, kernel: int, strides: int = 1, **options: Any
) -> nn.Conv2D:
    """Return a convolution with an odd kernel that is padded to keep the size at stride 1.

    ``options`` are ``groups``, ``use_bias`` (by default False) and ``prefix``.
    """
    options = {"use_bias": False, **options}
    return nn.Conv2D(channels, kernel, strides, kernel // 2, in_channels=in_channels, **options)


def norm_act_conv(
    in_channels: int,
    channels: int,
    kernel: int,
    suffix: str = "",
    *,
    eps: float = 1e-5,
    dropout: float = 0.0,
    dropout_after: str = "conv",
    **conv: Any,
) -> list[nn.HybridBlock]:
    """Return the layers ``norm``, ``relu``, ``conv`` and, see :func:`dropout_layers`, ``dropout``.

    ``suffix`` is appended to their names. ``conv`` are ``strides``, ``groups`` and ``use_bias``.
    """
    return [
        batch_norm(in_channels, eps, f"norm{suffix}_"),
        nn.Activation("relu", prefix=f"relu{suffix}_"),
        conv2d(in_channels, channels, kernel, prefix=f"conv{suffix}_", **conv),
        *dropout_layers(dropout, dropout_after, kernel, f"dropout{suffix}_"),
    ]


class NormActConv(Chain):
    """BN-ReLU-Conv, the pre-activation unit of the DenseNet, CSPNet and DPN papers.

    Parameters
    ----------
    in_channels, channels
        Width of the input and of the output.
    kernel
        Side of the square kernel; odd, padded to keep the size.
    **conv
        ``prefix``, and ``strides``, ``groups``, ``use_bias``, ``eps``, ``dropout`` and
        ``dropout_after`` of :func:`norm_act_conv`.

    Inputs / Outputs
        ``(N, in_channels, H, W)`` to ``(N, channels, H / strides, W / strides)``.
    """

    def __init__(self, in_channels: int, channels: int, kernel: int = 1, **conv: Any) -> None:
        super().__init__(prefix=conv.pop("prefix", None))
        self.out_channels = channels
        with self.name_scope():
            self.add(*norm_act_conv(in_channels, channels, kernel, **conv))


ACTIVATIONS = ("relu", "silu")


class SiLU(nn.HybridBlock):
    """x sigmoid(x), also called Swish (Elfwing et al., "Sigmoid-Weighted Linear Units")."""

    def hybrid_forward(self, F: Any, x: Tensor) -> Tensor:
        """Multiply the input by its sigmoid."""
        return F.elemwise_mul(x, F.Activation(x, act_type="sigmoid"))


def activation(act: str, prefix: str, slope: float = 0.0) -> nn.HybridBlock:
    """Return an activation of :data:`ACTIVATIONS`; ``slope`` is the negative slope of a ReLU."""
    if act == "silu":
        return SiLU(prefix=prefix)
    return nn.LeakyReLU(slope, prefix=prefix) if slope else nn.Activation("relu", prefix=prefix)


class ConvNormAct(Chain):
    """Conv-BN-ReLU, the post-activation unit of ResNet.

    Parameters
    ----------
    in_channels, channels, kernel, strides, groups, eps
        As in :class:`NormActConv`, which has the same input and output shapes.
    act
        False omits the ReLU.
    slope
        Negative slope of the ReLU.
    dropout, dropout_after
        Dropout after the unit, see :func:`dropout_layers`.
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
        dropout_after: str = "conv",
        prefix: str | None = None,
    ) -> None:
        super().__init__(prefix=prefix)
        if channels < 1 or in_channels % groups or channels % groups:
            raise ValueError(
                f"a convolution from {in_channels} to {channels} channels needs positive widths "
                f"that are divisible by groups (={groups}): choose other widths or ratios."
            )
        self.out_channels = channels
        with self.name_scope():
            self.add(
                conv2d(in_channels, channels, kernel, strides, groups=groups, prefix="conv_"),
                batch_norm(channels, eps, "norm_"),
            )
            if act:
                self.add(activation("relu", "relu_", slope))
            self.add(*dropout_layers(dropout, dropout_after, kernel))
