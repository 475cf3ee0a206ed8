# SPDX-License-Identifier: Apache-2.0
"""Detectors by name: ``KIND_BACKBONE_DATASET``, such as ``yolo3_efm_csp_peleenet_voc``."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from ..environment.process import import_gluoncv
from ..errors import check, check_known, in_one_line, is_count
from ..models.registry import SPECS, build_model, get_spec
from . import build
from .spec import FUSIONS, DetectorSpec

YOLO, SSD, CENTER_NET = "yolo3", "ssd_512", "center_net"
KINDS = (*(f"{YOLO}_{fusion}" for fusion in FUSIONS), SSD, CENTER_NET)
CUSTOM = "custom"  # a data set of your own
# Data set -> the class of gluoncv.data with the names of its classes, and their number.
DATASETS = {"voc": ("VOCDetection", 20), "coco": ("COCODetection", 80)}
# Stems whose networks have no map at stride 32.
SMALL_STEMS = ("cifar", "half", "tutorial")


class DetectorName(NamedTuple):
    """The parts of a name: an element of ``KINDS``, a network, and a data set or ``CUSTOM``."""

    kind: str
    backbone: str
    dataset: str


@cache
def detector_names() -> dict[str, DetectorName]:
    """Return all names with their parts."""
    backbones = [name for name, spec in SPECS.items() if spec.stem not in SMALL_STEMS]
    parts = [
        DetectorName(kind, backbone, dataset)
        for kind in KINDS
        for backbone in backbones
        for dataset in (CUSTOM, *DATASETS)
    ]
    return {"_".join(each): each for each in parts}


def list_detectors(pattern: str = "*") -> list[str]:
    """Return the names of all detectors that match a shell pattern, sorted.

    Examples
    --------
    >>> list_detectors("yolo3_efm_csp_pelee*")
    ['yolo3_efm_csp_peleenet_coco', 'yolo3_efm_csp_peleenet_custom', 'yolo3_efm_csp_peleenet_voc']
    """
    return sorted(fnmatch.filter(detector_names(), pattern))


def is_detector(name: Any) -> bool:
    """Return whether a name is that of a detector, known or not."""
    prefixes = tuple(f"{kind}_" for kind in (YOLO, SSD, CENTER_NET))
    return isinstance(name, str) and name.lower().startswith(prefixes)


def parse_detector(name: str) -> DetectorName:
    """Return the parts of a detector's name; raise a ValueError if it is unknown."""
    key = name.lower() if isinstance(name, str) else name
    check_known("detector", key, detector_names(), "a name is KIND_BACKBONE_DATASET")
    return detector_names()[key]


def get_detector_spec(name: str, **fields: Any) -> DetectorSpec:
    """Return the spec of a YOLOv3 detector by name, with fields replaced.

    Parameters
    ----------
    name
        One of :func:`list_detectors` that begins with ``yolo3``, in any case.
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
    parts = parse_detector(name)
    check("name", name, f"a {YOLO} detector: others have no spec", parts.kind.startswith(YOLO))
    of_name: dict[str, Any] = {"fusion": parts.kind[len(YOLO) + 1 :], "backbone": parts.backbone}
    if parts.dataset in DATASETS:
        of_name["classes"] = DATASETS[parts.dataset][1]
    for field, value in of_name.items():
        given = fields.get(field, value)
        check(field, given, f"{value!r}, as in {name}", given == value)
    return DetectorSpec(**{**fields, **of_name})


def build_detector(name: str, *, classes: int | Sequence[str] | None = None, **options: Any) -> Any:
    """Build a detector by name, with uninitialized parameters.

    Parameters
    ----------
    name
        One of :func:`list_detectors`, in any case.
    classes
        Names of the classes or their number; those of ``_voc`` and ``_coco`` are known.
    **options
        Of ``yolo3``: fields of :class:`DetectorSpec`, ``prefix``, ``memory_efficient``,
        ``norm_layer`` and ``norm_kwargs``, see :func:`gluondense.get_model`. Of ``ssd_512`` and
        ``center_net``: ``backbone_args``, ``norm_layer``, ``norm_kwargs``, and arguments of
        GluonCV's ``get_ssd`` and ``CenterNet``.

    Returns
    -------
    YOLOv3, SSD or CenterNet
        A YOLOv3 is hybridized into a static graph.

    Raises
    ------
    ValueError
        If the name or a field is unknown, a value is outside its range, or the backbone does not
        have the feature maps that the detector reads.

    Examples
    --------
    >>> import mxnet as mx
    >>> net = build_detector("yolo3_efm_csp_peleenet_custom", classes=["red", "white"], width=0.25)
    >>> net.initialize()
    >>> ids, scores, boxes = net(mx.nd.zeros((1, 3, 64, 64)))
    >>> boxes.shape, net.raw(mx.nd.zeros((1, 3, 64, 64))).shape
    ((1, 100, 4), (1, 252, 7))
    """
    parts = parse_detector(name)
    names = class_names(parts.dataset, classes)
    if parts.kind in (SSD, CENTER_NET):
        getter = build.build_ssd if parts.kind == SSD else build.build_center_net
        try:
            net = getter(parts.backbone, names, **options)
        except TypeError as error:  # an argument that neither we nor GluonCV know
            raise ValueError(f"{name}: {in_one_line(error)}") from error
        net.model_name = name.lower()
        return net
    fields = {key: value for key, value in options.items() if key not in build.OPTIONS}
    built = {key: value for key, value in options.items() if key in build.OPTIONS}
    spec = get_detector_spec(name, classes=len(names), **fields)
    return build.build_yolo(spec, names, name.lower(), **built)


def class_names(dataset: str, classes: Any = None) -> tuple[str, ...]:
    """Return the names of the classes of a data set; numbers where only their number is known.

    Raises
    ------
    ValueError
        If they are neither a positive number nor names, or not those of the data set.

    Examples
    --------
    >>> class_names("custom", 2), class_names("voc")[:2]
    (('0', '1'), ('aeroplane', 'bicycle'))
    """
    if dataset in DATASETS:
        names = tuple(getattr(import_gluoncv().data, DATASETS[dataset][0]).CLASSES)
        holds = classes in (None, len(names)) or (
            isinstance(classes, Sequence) and tuple(classes) == names
        )
        check(
            "classes", classes, f"the {len(names)} of {dataset}: build a _{CUSTOM} detector", holds
        )
        return names
    if classes is None:
        classes = DetectorSpec.classes
    if isinstance(classes, int) and is_count(classes):
        return tuple(map(str, range(classes)))
    is_sequence = isinstance(classes, Sequence) and not isinstance(classes, str)
    names = tuple(classes) if is_sequence else ()
    rule = "a positive integer or a sequence of different names"
    check("classes", classes, rule, 0 < len(names) == len(set(names)))
    return names


def build_network(name: str, **options: Any) -> Any:
    """Build the detector or, by :func:`gluondense.models.build_model`, the network of a name."""
    return (build_detector if is_detector(name) else build_model)(name, **options)


def get_row(name: str, **fields: Any) -> Any:
    """Return the spec of the detector or of the network of a name, with fields replaced."""
    return (get_detector_spec if is_detector(name) else get_spec)(name, **fields)
