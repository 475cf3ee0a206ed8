# SPDX-License-Identifier: Apache-2.0
"""PeleeNet in PyTorch, which neither torchvision nor timm has; names are those of its authors."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import nn


class Unit(nn.Sequential):
    """Conv-BN-ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> None:
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        layers = {"conv": conv, "norm": nn.BatchNorm2d(outputs), "relu": nn.ReLU(inplace=True)}
        super().__init__(OrderedDict(layers))


class StemBlock(nn.Module):
    """Two ways of subsampling behind the first convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem1, self.stem2a = Unit(3, 32, 3, 2), Unit(32, 16)
        self.stem2b, self.stem3 = Unit(16, 32, 3, 2), Unit(64, 32)
        self.pool = nn.MaxPool2d(2, 2, ceil_mode=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Concatenate and fuse."""
        x = self.stem1(x)
        return self.stem3(torch.cat([self.pool(x), self.stem2b(self.stem2a(x))], 1))


class DenseLayer(nn.Module):
    """Appends 16 feature maps of each branch."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.branch1a, self.branch1b = Unit(inputs, width), Unit(width, 16, 3)
        self.branch2a, self.branch2b = Unit(inputs, width), Unit(width, 16, 3)
        self.branch2c = Unit(16, 16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Append to the input."""
        second = self.branch2c(self.branch2b(self.branch2a(x)))
        return torch.cat([x, self.branch1b(self.branch1a(x)), second], 1)


class PeleeNet(nn.Module):
    """The network of the paper's Table 1."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        layers: dict[str, nn.Module] = {"stemblock": StemBlock()}
        channels = 32
        for index, (count, width) in enumerate(((3, 16), (4, 32), (8, 64), (6, 64)), start=1):
            block = [
                (f"denselayer{i + 1}", DenseLayer(channels + 32 * i, width)) for i in range(count)
            ]
            layers[f"denseblock{index}"] = nn.Sequential(OrderedDict(block))
            channels += 32 * count
            layers[f"transition{index}"] = Unit(channels, channels)
            if index < 4:
                layers[f"transition{index}_pool"] = nn.AvgPool2d(2, 2)
        self.features = nn.Sequential(OrderedDict(layers))
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> Any:
        """Return the logits."""
        return self.classifier(self.features(x).mean((2, 3)))
