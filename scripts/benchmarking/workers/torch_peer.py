# SPDX-License-Identifier: Apache-2.0
"""The same networks in torchvision or timm."""

from __future__ import annotations

import contextlib
import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

# timm's names where they differ from this project's.
TIMM_NAMES = {
    "csp_darknet53": "cspdarknet53",
    "csp_resnet50": "cspresnet50",
    "csp_resnet50d": "cspresnet50d",
    "csp_resnet50w": "cspresnet50w",
    "csp_resnext50": "cspresnext50",
}


# DenseNet-BC of section 4.2 of the paper, with its depth and growth rate.
CIFAR_DENSENET = re.compile(r"densenet(\d+)_k(\d+)_bc_cifar(10|100)")


def import_torchvision() -> Any:
    """Import torchvision, whose CUDA wheels also work beside PyTorch for CPUs then.

    They expect two operators that its networks and transforms do not use.
    """
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        with contextlib.suppress(RuntimeError):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return importlib.import_module("torchvision")


def build(model: str, **options: Any) -> Any:
    """Build torchvision's network of this name, else timm's; return None if neither has it.

    PeleeNet, which neither has, is in :mod:`torch_peleenet`; DenseNet-BC for CIFAR is
    torchvision's DenseNet with another stem.
    """
    if model == "peleenet":
        return _peleenet().eval()
    if found := CIFAR_DENSENET.fullmatch(model):
        return _cifar_densenet(*map(int, found.groups()), **options).eval()
    with contextlib.suppress(ImportError, ValueError):
        return import_torchvision().models.get_model(model, **options).eval()
    with contextlib.suppress(ImportError):
        import timm

        name = TIMM_NAMES.get(model, model)
        if timm.is_model(name):
            return timm.create_model(name, **options).eval()
    return None


def _peleenet() -> Any:
    """Build PeleeNet, from the file beside this one, which is a package's or a script's."""
    sys.path.insert(0, str(Path(__file__).parent))
    try:
        return importlib.import_module("torch_peleenet").PeleeNet()
    finally:
        sys.path.pop(0)


def _cifar_densenet(depth: int, growth_rate: int, classes: int, **options: Any) -> Any:
    """Build a DenseNet-BC: a 3x3 convolution, and three blocks of layers of two convolutions."""
    from torch import nn

    blocks, stem = ((depth - 4) // 6,) * 3, 2 * growth_rate
    options = {"num_classes": classes, **options}
    net = import_torchvision().models.DenseNet(growth_rate, blocks, stem, **options)
    net.features.conv0 = nn.Conv2d(3, stem, 3, padding=1, bias=False)
    for name in ("norm0", "relu0", "pool0"):
        delattr(net.features, name)
    return net


def load(folder: Path) -> Any:
    """Build the network and load its weights."""
    from safetensors.torch import load_file

    net = build(json.loads((folder / "network.json").read_text())["model"])
    # Batch counters are buffers without a counterpart here.
    missing = net.load_state_dict(load_file(folder / "net.safetensors"), strict=False).missing_keys
    rest = [key for key in missing if not key.endswith("num_batches_tracked")]
    if rest:
        raise ValueError(f"{folder}: the file lacks the peer's {', '.join(rest[:3])}")
    return net
