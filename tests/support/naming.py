"""Which network each naming scheme covers completely."""

from __future__ import annotations

COMPLETE = [
    *((naming, "densenet121") for naming in ("torchvision", "gluoncv2", "gluondense")),
    *((naming, "densenet201") for naming in ("mxnet-zoo", "mxnet-zoo-export")),
    ("csp-listing", "csp_densenet121_listing"),
    *((naming, "dpn92") for naming in ("timm-dpn", "cypw-dpn", "gluoncv2-dpn")),
    *((naming, "dpn68b") for naming in ("timm-dpn-b", "cypw-dpn-b", "gluoncv2-dpn-b")),
    ("timm-dpn-b", "dpn48b"),
    ("torchvision", "densenet264d"),
    ("oyam-dpn", "dpn98_listing"),
    *(
        ("timm-csp", name)
        for name in ("csp_resnext50", "csp_resnet50d", "csp_darknet53", "darknet53")
    ),
    ("pelee", "peleenet"),
    ("timm-rdnet", "rdnet_tiny"),
    ("gluoncv2-cifar", "densenet40_k12_cifar10"),
    ("gluoncv2-cifar-bc", "densenet100_k12_bc_cifar100"),
    ("veit-densenet", "densenet40_k12_bc_cifar10"),
    ("d2l", "densenet_tutorial"),
    ("gluondense-export", "dpn107"),
]
