# SPDX-License-Identifier: Apache-2.0
"""The page, a Gradio application that works offline and sends nothing to other servers."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING, Any

from .bars import CSS, answer, bars, maps, note, problem
from .classifier import Classifier

if TYPE_CHECKING:
    import gradio as gr

MAX_FILE_SIZE = "50mb"
HELP = answer(note("Drop an image on the left, paste one, or click to choose a file."))
# Gradio's themes load their fonts from a server of Google.
FONTS = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}


def make_page(classifier: Classifier, top: int | None = None) -> gr.Blocks:
    """Return the application for a network; ``top`` is as in :class:`Classifier`.

    Raises
    ------
    ImportError
        If Gradio is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read on import and on construction
    import gradio as gr

    def respond(path: str | None) -> Iterator[str]:
        yield from _respond(classifier, path, top)

    heading = classifier.model.model or "A network"
    title, kept = f"{heading} · gluondense", (600, 600)  # seconds; files of uploads
    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=kept) as page:
        text = f"<h1>{escape(heading)}</h1><p>{escape(_describe(classifier))}</p>"
        gr.HTML(text, elem_id="heading")
        with gr.Row():
            image = gr.Image(
                type="filepath",
                image_mode=None,
                sources=["upload", "clipboard"],
                label="Image",
                height=380,
                buttons=["fullscreen"],
                elem_id="image",
            )
            # The bytes as they are: Gradio would decode, rotate or convert them. No subclass, for
            # which Gradio writes a file beside this module.
            image.preprocess = _path
            with gr.Column():
                html = gr.HTML(HELP, elem_id="answer")
        image.change(respond, image, html, show_progress="minimal", api_visibility="private")
    return page


def launch(page: gr.Blocks, host: str, port: int | None, share: bool = False) -> str:
    """Serve the page in a background thread and return its address.

    Parameters
    ----------
    page
        Result of :func:`make_page`.
    host, port
        Address to listen on. None takes the first free port from 7860 on.
    share
        Whether Gradio makes a public link, through a server of its makers.

    Raises
    ------
    OSError
        If the host is not an address of this computer, or the port is not free.
    """
    import gradio as gr

    _check_free(host, port)
    _, local, public = page.launch(
        server_name=host,
        server_port=port,
        share=share,
        theme=gr.themes.Default(primary_hue="teal", **FONTS),
        css=CSS,
        prevent_thread_lock=True,
        quiet=True,
        footer_links=[],
        max_file_size=MAX_FILE_SIZE,
        enable_monitoring=False,
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
    )
    return public or local


def _path(upload: Any) -> str | None:
    return None if upload is None else upload.path


def _check_free(host: str, port: int | None) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port or 0), family=family):
            pass
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        where = host if port is None else f"port {port} of {host}"
        raise OSError(f"{where} is not free ({reason}): give another one.") from None


def _respond(classifier: Classifier, path: str | None, top: int | None) -> Iterator[str]:
    """Yield the answer, first without the maps, which take longer."""
    if path is None:
        yield HELP
        return
    try:
        found = classifier(path, top)
    except (OSError, ValueError) as error:
        yield problem(str(error).replace(path, os.path.basename(path)))
        return
    known, time = found.prediction, f"{1000 * found.seconds:.1f} ms in the network, on the CPU"
    if known.thresholds is not None:
        time += "; a line marks the threshold of a label"
    parts = [bars(known.labels, known.probabilities, known.thresholds), note(time)]
    yield answer(*parts)
    try:
        parts.append(maps(classifier.explain(path)))
    except ValueError as error:
        parts.append(note(f"No heat map: {error}"))
    yield answer(*parts)


def _describe(classifier: Classifier) -> str:
    model, preprocessing = classifier.model, classifier.preprocessing
    (height, width), channels = preprocessing.size, preprocessing.channels
    kind = {1: "grayscale", 3: "RGB"}.get(channels, f"{channels} channels")
    outputs = "labels" if model.has_several_labels else "classes"
    count = f" · {len(model.class_names)} {outputs}" if model.class_names else ""
    name = os.path.basename(os.path.normpath(model.name))
    return f"{name} · input {width} × {height}, {kind}{count}"
