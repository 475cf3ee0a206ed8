"""Helpers of several test modules, from weights/naming/test_schemes.py."""

from __future__ import annotations

# Networks that each layout names completely.
COMPLETE = [
    *((layout, "densenet121") for layout in ("torchvision", "gluoncv2", "gluondense")),
    *((layout, "densenet201") for layout in ("mxnet-zoo", "mxnet-zoo-export")),
    ("csp-listing", "csp_densenet121_listing"),
    *((layout, "dpn92") for layout in ("timm-dpn", "cypw-dpn", "gluoncv2-dpn")),
    *((layout, "dpn68b") for layout in ("timm-dpn-b", "cypw-dpn-b", "gluoncv2-dpn-b")),
    ("oyam-dpn", "dpn98_listing"),
    ("timm-csp", "csp_resnext50"),
    ("gluoncv2-cifar", "densenet40_k12_cifar10"),
    ("gluoncv2-cifar-bc", "densenet100_k12_bc_cifar100"),
    ("d2l", "densenet_tutorial"),
    ("gluondense-export", "dpn107"),
]
