"""The same networks by others: torchvision, timm, listings of DPN and CSP-DenseNet."""

from __future__ import annotations

import contextlib
import re
import sys
import types
import zlib
from typing import Any

import numpy as np
import pytest

from support.paths import SHARED

torch = pytest.importorskip("torch", reason="`make test-parity` installs the peers")

# torchvision's wheel registers operators against a library compiled for CUDA. Its networks need
# none of them, so that declaring the two names lets it be imported beside torch for CPUs.
_TORCHVISION_OPERATORS = torch.library.Library("torchvision", "DEF")  # undeclares when collected
for _name in ("nms", "qnms"):
    with contextlib.suppress(RuntimeError):  # a complete torchvision has declared it
        _TORCHVISION_OPERATORS.define(
            f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        )


def torchvision(name: str) -> torch.nn.Module:
    return pytest.importorskip("torchvision").models.get_model(name)


def timm(name: str, **options: Any) -> torch.nn.Module:
    return pytest.importorskip("timm").create_model(name, **options)


def listing(seed: str, first: str, last: str) -> types.ModuleType:
    """Run the lines of a seed from one to another as a module."""
    files = sorted((SHARED / "seeds").glob(f"{seed}_*.txt"))
    if not files:
        pytest.skip("the seeds are not here")
    text = files[0].read_text(encoding="utf-8")
    start = text.index(first)
    code = text[start : text.index(last, start)]
    # Pages have spaces that Python does not know, and `_type is 'proj'` is a SyntaxWarning.
    code = re.sub(r" is '", " == '", code.replace("\xa0", " "))
    module = types.ModuleType(f"seed{seed}")
    sys.modules[module.__name__] = module  # torch looks classes up
    exec(compile(code, files[0].name, "exec", dont_inherit=True), module.__dict__)
    return module


def randomize(model: torch.nn.Module, seed: str) -> torch.nn.Module:
    """Give parameters and statistics random values that keep the signal's size."""
    rng = np.random.default_rng(zlib.crc32(seed.encode()))

    def draw(low: float, high: float, like: Any) -> torch.Tensor:
        return torch.from_numpy(rng.uniform(low, high, tuple(like.shape)))

    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.copy_(draw(0.5, 1.5, module.weight))
                module.bias.copy_(draw(-0.5, 0.5, module.bias))
                module.running_mean.copy_(draw(-0.5, 0.5, module.running_mean))
                module.running_var.copy_(draw(0.5, 1.5, module.running_var))
            elif isinstance(module, torch.nn.LayerNorm):
                module.weight.copy_(draw(0.5, 1.5, module.weight))
                module.bias.copy_(draw(-0.5, 0.5, module.bias))
            elif isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
                bound = (6 / module.weight[0].numel()) ** 0.5  # He's variance, 2 / fan-in
                module.weight.copy_(draw(-bound, bound, module.weight))
                if module.bias is not None:
                    module.bias.copy_(draw(-0.5, 0.5, module.bias))
        for name, parameter in model.named_parameters():
            if name.endswith("gamma"):  # the layer scale of RDNet
                parameter.copy_(draw(0.3, 0.7, parameter))
    return model.eval()


def stage_maps(model: torch.nn.Module, modules: list[str], x: torch.Tensor) -> list[np.ndarray]:
    """The outputs of the named modules; where one has two paths, both joined."""
    maps: list[np.ndarray] = []

    def keep(_: Any, __: Any, output: Any) -> None:
        joined = torch.cat(output, dim=1) if isinstance(output, (list, tuple)) else output
        maps.append(joined.detach().numpy().copy())  # a later layer may work in place

    handles = [model.get_submodule(name).register_forward_hook(keep) for name in modules]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return maps
