# SPDX-License-Identifier: Apache-2.0
"""Build the detectors. GluonCV, whose import takes a second, is imported by the first one."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from mxnet.gluon import nn

from ..blocks.norm import NormKwargs, NormLayer, norm_scope
from ..environment.process import import_gluoncv
from ..graph.recompute import find_policy
from ..models.network import Network
from ..models.registry import build_model
from .backbone import build_backbone
from .spec import STRIDES, DetectorSpec

# What a YOLOv3 is built with besides the fields of its spec.
OPTIONS = ("prefix", "memory_efficient", "norm_layer", "norm_kwargs")
# GluonCV's preset for ssd_512_resnet50_v1: maps of stride 16 and 32, and four that are added.
SSD_512 = {
    "filters": [512, 512, 256, 256],
    "sizes": [51.2, 102.4, 189.4, 276.4, 363.52, 450.6, 492],
    "ratios": [[1, 2, 0.5]] + [[1, 2, 0.5, 3, 1.0 / 3]] * 3 + [[1, 2, 0.5]] * 2,
    "steps": [16, 32, 64, 128, 256, 512],
}
SSD_STRIDES = (16, 32)
SIDE = 512  # of the images that SSD and CenterNet are built for


def build_yolo(
    spec: DetectorSpec,
    classes: Sequence[str],
    model_name: str,
    *,
    prefix: str | None = None,
    memory_efficient: bool | str = False,
    norm_layer: NormLayer | None = None,
    norm_kwargs: NormKwargs = None,
) -> Any:
    """Return the :class:`YOLOv3` of a spec, hybridized; arguments as in ``build_detector``."""
    from .necks import NECKS
    from .yolo import YOLOv3

    find_policy(memory_efficient)
    prefix = f"{model_name}_" if prefix is None else prefix
    norms: dict[str, Any] = {"norm_layer": norm_layer, "norm_kwargs": norm_kwargs}
    backbone = build_backbone(
        spec.backbone,
        NECKS[spec.fusion].strides,
        dict(spec.backbone_args),
        in_channels=spec.in_channels,
        prefix=f"{prefix}backbone_",
        **norms,
    )
    with norm_scope(**norms):
        net = YOLOv3(backbone, spec, classes, model_name, prefix, memory_efficient)
    net.hybridize(static_alloc=True, static_shape=True)
    return net


def build_ssd(
    name: str,
    classes: Sequence[str],
    *,
    backbone_args: Any = (),
    norm_layer: NormLayer | None = None,
    norm_kwargs: NormKwargs = None,
    **options: Any,
) -> Any:
    """Return GluonCV's ``SSD`` for 512 x 512 on a backbone, with its preset for ResNet-50.

    Parameters
    ----------
    name, backbone_args
        The backbone and fields of its spec; it has maps of strides 16 and 32.
    classes
        Names of the classes.
    norm_layer, norm_kwargs
        Of the backbone and of the added layers.
    **options
        Arguments of GluonCV's ``get_ssd``.

    References
    ----------
    Liu et al., "SSD"; GluonCV, ``ssd_512_resnet50_v1_voc``.
    """
    options.update(norm_layer=norm_layer or nn.BatchNorm, norm_kwargs=norm_kwargs)
    fields = {**dict(backbone_args), "norm_layer": norm_layer, "norm_kwargs": norm_kwargs}
    outputs = build_backbone(name, SSD_STRIDES, fields).feature_outputs
    backbone = build_model(name, **fields)
    arguments = {**SSD_512, "pretrained_base": False, "dataset": "", **options}
    get_ssd = import_gluoncv().model_zoo.get_ssd
    with warnings.catch_warnings():
        # MXNet's import of a symbol says so of its input, which has no type yet.
        warnings.filterwarnings("ignore", "Cannot decide type for the following arguments")
        net = get_ssd(backbone, SIDE, outputs, classes=classes, **arguments)
    return _with_backbone(net, backbone)


def build_center_net(
    name: str,
    classes: Sequence[str],
    *,
    backbone_args: Any = (),
    norm_layer: NormLayer | None = None,
    norm_kwargs: NormKwargs = None,
    **options: Any,
) -> Any:
    """Return GluonCV's ``CenterNet`` on a backbone and three deconvolutions, initialized.

    Parameters
    ----------
    name, backbone_args
        The backbone and fields of its spec; it has a map of stride 32.
    classes
        Names of the classes.
    norm_layer, norm_kwargs
        Of the backbone and of the deconvolutions.
    **options
        Arguments of GluonCV's ``CenterNet``.

    References
    ----------
    Zhou et al., "Objects as Points", section 5; GluonCV, ``center_net_resnet18_v1b_voc``.
    """
    from .center_net import Deconvolutions

    norms: dict[str, Any] = {"norm_layer": norm_layer, "norm_kwargs": norm_kwargs}
    backbone = build_backbone(name, STRIDES[-1:], {**dict(backbone_args), **norms})
    with norm_scope(**norms):
        base = Deconvolutions(backbone, prefix="center_net_")
    # A heatmap begins with the probability 0.1.
    heads = OrderedDict(
        heatmap={"num_output": len(classes), "bias": -2.19},
        wh={"num_output": 2},
        reg={"num_output": 2},
    )
    arguments = {"head_conv_channel": 64, "scale": 4.0, "topk": 100, **options}
    net = import_gluoncv().model_zoo.get_center_net(
        name, "", base_network=base, heads=heads, classes=classes, **arguments
    )
    return _with_backbone(net, backbone)


def _with_backbone(net: Any, backbone: Network) -> Any:
    """Add what a YOLOv3 has too; the backbone's parameters are the detector's already."""
    object.__setattr__(net, "backbone", backbone)
    net.input_size = SIDE
    return net
