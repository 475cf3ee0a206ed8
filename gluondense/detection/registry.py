# SPDX-License-Identifier: Apache-2.0
"""Detectors by name: ``yolo3_FUSION_BACKBONE_DATASET``, such as ``yolo3_efm_csp_peleenet_voc``."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from functools import partial
from typing import Any

from ..blocks.norm import NormKwargs, NormLayer, norm_scope
from ..environment.process import import_gluoncv
from ..errors import check, check_known
from ..graph.recompute import find_policy
from ..models.network import Network
from ..models.registry import SPECS, build_model, get_spec
from .spec import FUSIONS, DetectorSpec

PREFIX = "yolo3"
CUSTOM = "custom"  # a data set of your own
# Data set -> the class of gluoncv.data with the names of its classes, and their number.
DATASETS = {"voc": ("VOCDetection", 20), "coco": ("COCODetection", 80)}
# Stems whose networks have no map at stride 32.
SMALL_STEMS = ("cifar", "half", "tutorial")


def list_detectors(pattern: str = "*") -> list[str]:
    """Return the names of all detectors that match a shell pattern, sorted.

    Examples
    --------
    >>> list_detectors("yolo3_efm_csp_pelee*")
    ['yolo3_efm_csp_peleenet_coco', 'yolo3_efm_csp_peleenet_custom', 'yolo3_efm_csp_peleenet_voc']
    """
    backbones = [name for name, spec in SPECS.items() if spec.stem not in SMALL_STEMS]
    names = [
        f"{PREFIX}_{fusion}_{backbone}_{dataset}"
        for fusion in FUSIONS
        for backbone in backbones
        for dataset in (CUSTOM, *DATASETS)
    ]
    return sorted(fnmatch.filter(names, pattern))


def is_detector(name: Any) -> bool:
    """Return whether a name is that of a detector, known or not."""
    return isinstance(name, str) and name.lower().startswith(f"{PREFIX}_")


def get_detector_spec(name: str, **fields: Any) -> DetectorSpec:
    """Return the spec of a detector by name, with fields replaced.

    Parameters
    ----------
    name
        One of :func:`list_detectors`, in any case.
    **fields
        Fields of :class:`DetectorSpec`.

    Raises
    ------
    ValueError
        If the name or a field is unknown, contradicts the name, or is outside its range.

    Examples
    --------
    >>> get_detector_spec("yolo3_fpn_densenet121_coco", width=0.5).classes
    80
    """
    for field in fields:
        check_known("field of a detector", field, DetectorSpec.__dataclass_fields__)
    fusion, backbone, dataset = _parse(name)
    of_name: dict[str, Any] = {"fusion": fusion, "backbone": backbone}
    if dataset in DATASETS:
        of_name["classes"] = DATASETS[dataset][1]
    for field, value in of_name.items():
        given = fields.get(field, value)
        check(field, given, f"{value!r}, as in {name}", given == value)
    return DetectorSpec(**{**fields, **of_name})


def build_detector(
    name: str,
    *,
    classes: int | Sequence[str] | None = None,
    prefix: str | None = None,
    memory_efficient: bool | str = False,
    norm_layer: NormLayer | None = None,
    norm_kwargs: NormKwargs = None,
    **fields: Any,
) -> Any:
    """Build a detector by name, hybridized into a static graph, with uninitialized parameters.

    Parameters
    ----------
    name
        One of :func:`list_detectors`, in any case.
    classes
        Names of the classes or their number; for ``_voc`` and ``_coco`` they are known.
    prefix
        Prefix of parameter names in exported symbols; the detector's name by default.
    memory_efficient, norm_layer, norm_kwargs
        As in :func:`gluondense.get_model`.
    **fields
        Fields of :class:`DetectorSpec`.

    Returns
    -------
    YOLOv3
        A subclass of GluonCV's ``YOLOV3``.

    Raises
    ------
    ValueError
        If the name or a field is unknown, a value is outside its range, or the backbone does not
        have the feature maps that the neck reads.

    Examples
    --------
    >>> import mxnet as mx
    >>> net = build_detector("yolo3_efm_csp_peleenet_custom", classes=["red", "white"], width=0.25)
    >>> net.initialize()
    >>> ids, scores, boxes = net(mx.nd.zeros((1, 3, 64, 64)))
    >>> boxes.shape, net.raw(mx.nd.zeros((1, 3, 64, 64))).shape
    ((1, 100, 4), (1, 252, 7))
    """
    from .yolo import YOLOv3  # imports GluonCV

    names = None
    if classes is not None:
        names = None if isinstance(classes, int) else tuple(classes)
        fields["classes"] = classes if names is None else len(names)
    spec, key = get_detector_spec(name, **fields), name.lower()
    find_policy(memory_efficient)
    prefix = f"{key}_" if prefix is None else prefix
    norms: dict[str, Any] = {"norm_layer": norm_layer, "norm_kwargs": norm_kwargs}
    backbone = _backbone(spec, prefix=f"{prefix}backbone_", **norms)
    names = names or _class_names(key, spec.classes)
    with norm_scope(**norms):
        net = YOLOv3(backbone, spec, names, key, prefix, memory_efficient)
    net.hybridize(static_alloc=True, static_shape=True)
    return net


def build_network(name: str, **options: Any) -> Any:
    """Build the detector or, by :func:`gluondense.models.build_model`, the network of a name."""
    return (build_detector if is_detector(name) else build_model)(name, **options)


def get_row(name: str, **fields: Any) -> Any:
    """Return the spec of the detector or of the network of a name, with fields replaced."""
    return (get_detector_spec if is_detector(name) else get_spec)(name, **fields)


def _parse(name: str) -> tuple[str, str, str]:
    """Return fusion, backbone and data set of a detector's name."""
    key = name.lower() if isinstance(name, str) else name
    check_known("detector", key, list_detectors(), f"a name is {PREFIX}_FUSION_BACKBONE_DATASET")
    fusion, _, rest = key[len(PREFIX) + 1 :].partition("_")
    backbone, _, dataset = rest.rpartition("_")
    return fusion, backbone, dataset


def _class_names(name: str, count: int) -> tuple[str, ...]:
    dataset = name.rpartition("_")[2]
    if dataset == CUSTOM:
        return tuple(str(index) for index in range(count))
    return tuple(getattr(import_gluoncv().data, DATASETS[dataset][0]).CLASSES)


def _backbone(spec: DetectorSpec, **options: Any) -> Network:
    """Return the backbone with the maps that the neck reads."""
    from .necks import NECKS

    build = partial(
        build_model,
        spec.backbone,
        features_only=True,
        in_channels=spec.in_channels,
        **dict(spec.backbone_args),
        **options,
    )
    indices = {info.stride: index for index, info in enumerate(build().feature_info, start=1)}
    needed = NECKS[spec.fusion].strides
    rule = f"a network with maps at strides {', '.join(map(str, needed))}"
    has = f"{spec.backbone}, with {', '.join(map(str, indices))}"
    check("backbone", has, rule, all(stride in indices for stride in needed))
    return build(out_indices=tuple(indices[stride] for stride in needed))
