# SPDX-License-Identifier: Apache-2.0
"""The page, a Gradio application that works offline and sends nothing to other servers."""

from __future__ import annotations

import os
import socket
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read on import and on construction
import gradio as gr

from .bars import CSS, answer, bars, problem
from .classifier import Classifier

MAX_FILE_SIZE = "50mb"
# Gradio's themes load their fonts from a server of Google.
THEME = gr.themes.Default(
    primary_hue="teal",
    font=["system-ui", "sans-serif"],
    font_mono=["ui-monospace", "monospace"],
)


def make_page(classifier: Classifier, top: int = 5) -> gr.Blocks:
    """Return the application for a network; it shows the ``top`` most probable classes."""

    def respond(path: str | None) -> str:
        return _respond(classifier, path, top)

    name = os.path.basename(os.path.normpath(classifier.name))
    title, kept = f"{classifier.model} · gluondense", (600, 600)  # seconds; files of uploads
    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=kept) as page:
        gr.Markdown(f"# {classifier.model}\n{name} · {_describe(classifier)}")
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
                html = gr.HTML(_respond(classifier, None, top), elem_id="answer")
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
    _check_free(host, port)
    _, local, public = page.launch(
        server_name=host,
        server_port=port,
        share=share,
        theme=THEME,
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


def _respond(classifier: Classifier, path: str | None, top: int) -> str:
    if path is None:
        return answer("", "Drop an image on the left, paste one, or click to choose a file.")
    try:
        found = classifier(path, top)
    except (OSError, ValueError) as error:
        return problem(str(error).replace(path, os.path.basename(path)))
    prediction = found.prediction
    note = f"{1000 * found.seconds:.1f} ms in the network, on the CPU"
    shown = bars(prediction.labels, prediction.probabilities, prediction.thresholds)
    return answer(shown, note)


def _describe(classifier: Classifier) -> str:
    _, channels, height, width = classifier.input_shape
    kind = {1: "grey", 3: "RGB"}.get(channels, f"{channels} channels")
    names = classifier.class_names
    classes = f" · {len(names)} classes" if names else ""
    return f"{classifier.kind} · input {width} × {height}, {kind}{classes}"
