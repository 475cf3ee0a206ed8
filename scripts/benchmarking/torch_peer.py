"""The network as torchvision or timm have it."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

# Our names and timm's, where they differ.
TIMM_NAMES = {"csp_resnet50": "cspresnet50", "csp_resnext50": "cspresnext50"}


def build(model: str, **options: Any) -> Any:
    """Make torchvision's network of our name, else timm's, or return None if neither has it."""
    import torch

    # torchvision's wheels register operators against a library compiled for CUDA. Declaring the two
    # names lets its networks, which need none, be imported beside torch for CPUs.
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        with contextlib.suppress(RuntimeError):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    with contextlib.suppress(ImportError, ValueError):
        import torchvision

        return torchvision.models.get_model(model, **options).eval()
    with contextlib.suppress(ImportError):
        import timm

        name = TIMM_NAMES.get(model, model)
        if timm.is_model(name):
            return timm.create_model(name, **options).eval()
    return None


def load(folder: Path) -> Any:
    """Make the network and load its weights."""
    from safetensors.torch import load_file

    net = build(json.loads((folder / "network.json").read_text())["model"])
    # Its counters of batches are no weights.
    missing = net.load_state_dict(load_file(folder / "net.safetensors"), strict=False).missing_keys
    rest = [key for key in missing if not key.endswith("num_batches_tracked")]
    if rest:
        raise ValueError(f"{folder}: the peer also has {', '.join(rest[:3])}")
    return net
