# SPDX-License-Identifier: Apache-2.0
"""Open a web page that classifies the images dropped on it and shows class activation maps."""

from __future__ import annotations

import argparse
import signal
import threading
from typing import Optional

from .arguments import add_preprocessing, preprocessing_fields
from .output import call
from .parser import Parser


def main(argv: Optional[list[str]] = None) -> int:
    """Serve the page until Ctrl-C; return the exit code."""
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("model", help="a run's folder, an export's prefix, or weights such as densenet121.tv_in1k")
    add(
        "--top",
        type=int,
        help="classes to show (default: 5, or all labels of a multi-label network)",
    )
    host = "address to listen on (default: 127.0.0.1, this computer only; 0.0.0.0: all networks)"
    add("--host", default="127.0.0.1", help=host)
    add("--port", type=int, help="default: the first free port from 7860")
    share = "create a public link through a server of Gradio, whose operators can see the images"
    add("--share", action="store_true", help=share)
    add_preprocessing(parser)
    return call(_run, parser.parse_args(argv))


def _run(args: argparse.Namespace) -> None:
    from ..demo.classifier import Classifier
    from ..demo.page import launch, make_page
    from ..errors import check_count

    if args.top is not None:
        check_count("top", args.top)
    classifier = Classifier(args.model, **preprocessing_fields(args))
    try:
        page = make_page(classifier, args.top)
    except ImportError as error:
        raise ValueError(
            f"the page needs Gradio ({error}): pip install 'gluondense[demo]'."
        ) from None
    address = launch(page, args.host, args.port, args.share)
    stop = threading.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: stop.set())
    print(f"{address} (Ctrl-C ends)", flush=True)
    stop.wait()
    page.close(verbose=False)
