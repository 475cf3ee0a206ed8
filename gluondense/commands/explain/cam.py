# SPDX-License-Identifier: Apache-2.0
"""Show which parts of images are evidence for the most probable classes: class activation maps."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Optional

from ..arguments import add_preprocessing, preprocessing_fields
from ..output import call
from ..parser import Parser

if TYPE_CHECKING:
    from ...data.preprocessing import Preprocessing

METHODS = ("cam", "gradcam", "gradcam++")  # those of gluondense.explain; a test compares them


def main(argv: Optional[list[str]] = None) -> int:
    """Write a page with the maps of each image; return the exit code."""
    parser = Parser(description=__doc__)
    parser.add_argument(
        "model",
        help="a run's folder, a checkpoint's, a portable export, or weights such as "
        "densenet121.tv_in1k",
    )
    parser.add_argument("images", nargs="+", metavar="image.png")
    parser.add_argument(
        "--out", metavar="FILE.html", default="explain.html", help="default: explain.html"
    )
    parser.add_argument("--top", type=int, default=3, help="classes to explain (default: 3)")
    parser.add_argument(
        "--class",
        dest="classes",
        action="append",
        metavar="NAME",
        help="explain this class instead; may be repeated",
    )
    parser.add_argument(
        "--method",
        choices=METHODS,
        help="default: cam, which is exact, if the network allows it, else gradcam",
    )
    parser.add_argument(
        "--stage", metavar="NAME", help="explain this block, such as stage3; default: the last"
    )
    add_preprocessing(parser)
    return call(_run, parser.parse_args(argv))


def _run(args: argparse.Namespace) -> None:
    import mxnet as mx

    from ...evaluation.model import open_model

    model = open_model(args.model, [mx.cpu()]).adjusted(**preprocessing_fields(args))
    preprocessing = model.known_preprocessing()
    options = {"classes": args.classes, "method": args.method, "stage": args.stage}
    name = model.model or args.model
    write_page(
        args.out, name, model.net, args.images, preprocessing, model.class_names, args.top, options
    )
    print(args.out)


def write_page(
    path: str,
    name: str,
    net: Any,
    images: Sequence[str],
    preprocessing: Preprocessing,
    class_names: Optional[Sequence[str]],
    top: int,
    options: Optional[dict[str, Any]] = None,
) -> None:
    """Write the page of a network's explanations of image files.

    ``options`` are further arguments of :func:`gluondense.explain.explain_images`.
    """
    from ...explain.images import explain_images
    from ...reports.explanations import explanations_page
    from .page_file import write_html

    found = explain_images(net, images, preprocessing, class_names, top=top, **(options or {}))
    write_html(path, explanations_page(name, found))
