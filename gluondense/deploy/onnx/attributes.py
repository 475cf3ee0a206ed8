# SPDX-License-Identifier: Apache-2.0
"""Attributes of MXNet operators as those of ONNX, and the errors for unsupported ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...graph.ir import Node


def unsupported(node: Node, detail: str) -> ValueError:
    """Return the error for an operator, or for one of its attributes if there is ``detail``."""
    return ValueError(f"target='onnx' has no operator {node.op} ({node.name}){detail}.")


def require(node: Node, **attrs: str) -> None:
    """Raise a ValueError if an attribute has another value than the supported one."""
    for key, only in attrs.items():
        if node.attrs.get(key, only) != only:
            raise unsupported(node, f" with {key}={node.attrs[key]}")


def choose(node: Node, key: str, ops: Mapping[str, str], default: str = "") -> str:
    """Return the operator for the value of an attribute; raise a ValueError if there is none."""
    value = node.attrs.get(key, default)
    if value not in ops:
        raise unsupported(node, f" with {key}={value}")
    return ops[value]


def window_of(node: Node) -> dict[str, Any]:
    """Return the window of a convolution or pooling."""
    kernel = node.value("kernel", ())
    ones, pad = (1,) * len(kernel), node.value("pad", (0,) * len(kernel))
    return {"kernel_shape": kernel, "strides": node.value("stride", ones), "pads": (*pad, *pad)}
