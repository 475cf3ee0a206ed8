# SPDX-License-Identifier: Apache-2.0
"""Measure which layers the gradient of each feature map comes through, and where it is truncated.

Without a model, small networks with random weights are compared: DenseNet, and CSP-DenseNet with
each kind of fusion.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Optional

from ..output import call
from ..parser import Parser

if TYPE_CHECKING:
    from ...explain.flow import GradientFlow

LAYERS = 4  # of the dense stages of the small networks
IMAGES = 8
SIZE = 16  # of the images of the small networks


def main(argv: Optional[list[str]] = None) -> int:
    """Write the figure and the table, print the sets; return the exit code."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "model", nargs="?", help="a run's folder, a checkpoint's, or weights such as dpn68.mx_in1k"
    )
    parser.add_argument("--stage", default="stage1", help="default: stage1")
    parser.add_argument(
        "--out", metavar="FILE.html", default="gradients.html", help="default: gradients.html"
    )
    return call(_run, parser.parse_args(argv))


def _run(args: argparse.Namespace) -> None:
    from ...reports.connections import flow_page
    from .page_file import write_html

    flows = of_model(args.model, args.stage) if args.model else of_fusions(args.stage)
    note = "The images are noise." if args.model else "The weights are random, the images noise."
    write_html(args.out, flow_page(flows, note))
    for name, flow in flows.items():
        print(f"{name}, {flow.stage}:")
        for reader in flow.readers:
            print(f"  {reader}: {', '.join(flow.set_of(reader))}")
    print(args.out)


def of_model(name: str, stage: str) -> dict[str, GradientFlow]:
    """Return the gradient flow of a trained network, by its name."""
    import mxnet as mx

    from ...evaluation.model import open_model

    model = open_model(name, [mx.cpu()])
    size = model.preprocessing.size if model.preprocessing else (SIZE, SIZE)
    return {model.model or name: _flow(model.net, stage, size)}


def of_fusions(stage: str) -> dict[str, GradientFlow]:
    """Return the gradient flow of DenseNet and of CSP-DenseNet with each fusion, by their names."""
    import mxnet as mx

    from ...models.csp_densenet import FUSIONS
    from ...models.registry import build_model

    fields: dict[str, Any] = {"stem": "cifar", "block_config": (LAYERS, LAYERS), "classes": 10}
    flows = {}
    for fusion in (None, *FUSIONS):
        mx.random.seed(0)
        if fusion is None:
            name, net = "DenseNet", build_model("densenet121", **fields)
        else:
            name = f"CSP-DenseNet, fusion {fusion}"
            net = build_model("csp_densenet121", fusion=fusion, **fields)
        net.initialize()
        flows[name] = _flow(net, stage, (SIZE, SIZE))
    return flows


def _flow(net: Any, stage: str, size: tuple[int, int]) -> GradientFlow:
    import numpy as np

    from ...explain.dense_stages import dense_stages
    from ...explain.flow import gradient_flow

    dense_stages(net)  # raises an error for exports, which have no spec
    rng = np.random.default_rng(0)
    images = rng.standard_normal((IMAGES, net.spec.in_channels, *size)).astype(np.float32)
    return gradient_flow(net, images, np.arange(IMAGES) % net.spec.classes, stage)
