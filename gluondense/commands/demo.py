# SPDX-License-Identifier: Apache-2.0
"""Open a web page that classifies the images dropped on it, with a run or an export."""

from __future__ import annotations

import argparse
import signal
import threading
from typing import Optional

from .arguments import Parser, call


def main(argv: Optional[list[str]] = None) -> int:
    """Serve the page until Ctrl-C; return the exit code."""
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("model", help="a run's folder, a checkpoint's, or an export (prefix or one of its files)")
    add("--top", type=int, default=5, help="classes to show (default: 5)")
    invert = argparse.BooleanOptionalAction
    add("--invert", action=invert, help="invert the images, as gluondense predict does")
    host = "address to listen on (default: 127.0.0.1, this computer only; 0.0.0.0: all networks)"
    add("--host", default="127.0.0.1", help=host)
    add("--port", type=int, help="default: the first free one from 7860 on")
    share = "make a public link through a server of Gradio's makers, who then see the images"
    add("--share", action="store_true", help=share)
    return call(_run, parser.parse_args(argv))


def _run(args: argparse.Namespace) -> None:
    from ..demo.classifier import Classifier
    from ..errors import check_count

    check_count("--top", args.top)
    classifier = Classifier(args.model, args.invert)
    try:
        from ..demo.page import launch, make_page
    except ImportError as error:
        raise ValueError(
            f"the page needs Gradio ({error}): pip install 'gluondense[demo]'."
        ) from None
    page = make_page(classifier, args.top)
    address = launch(page, args.host, args.port, args.share)
    print(f"{address} (Ctrl-C ends)", flush=True)
    stop = threading.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: stop.set())
    stop.wait()
    page.close(verbose=False)
