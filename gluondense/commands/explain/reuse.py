# SPDX-License-Identifier: Apache-2.0
"""Show which layers of a dense network use which previous ones: Fig. 5 of the DenseNet paper."""

from __future__ import annotations

import argparse
from typing import Optional

from ..output import call
from ..parser import Parser


def main(argv: Optional[list[str]] = None) -> int:
    """Write the heatmaps of all stages, print a summary; return the exit code."""
    parser = Parser(description=__doc__)
    parser.add_argument(
        "model", help="a run's folder, a checkpoint's, or weights such as densenet121.tv_in1k"
    )
    parser.add_argument(
        "--out", metavar="FILE.html", default="reuse.html", help="default: reuse.html"
    )
    parser.add_argument(
        "--scale",
        choices=("layer", "stage", "none"),
        default="layer",
        help="divide each weight by the maximum of its layer (default) or stage, or by nothing",
    )
    parser.add_argument(
        "--normalization",
        action="store_true",
        help="multiply the weights by the gamma of the normalization before them, unlike the paper",
    )
    return call(_run, parser.parse_args(argv))


def _run(args: argparse.Namespace) -> None:
    import mxnet as mx

    from ...evaluation.model import open_model
    from ...explain.reuse import feature_reuse
    from ...reports.connections import reuse_page
    from .page_file import write_html

    model = open_model(args.model, [mx.cpu()])
    found = feature_reuse(model.net, args.normalization)
    scale = None if args.scale == "none" else args.scale
    page = reuse_page(model.model or args.model, found, scale, args.normalization)
    write_html(args.out, page)
    for stage in found:
        sources, readers = len(stage.sources), len(stage.readers)
        print(f"{stage.stage}: {sources} sources, {readers} layers that read them")
    print(args.out)
