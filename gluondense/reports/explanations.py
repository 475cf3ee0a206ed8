# SPDX-License-Identifier: Apache-2.0
"""HTML of class activation maps: a page for some images, and a gallery for reports."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from ..explain.images import ImageExplanation
from .page import document, image_url, section

METHODS = {
    "cam": "CAM, exact: the mean of the map is the logit without its bias",
    "gradcam": "Grad-CAM",
    "gradcam++": "Grad-CAM++",
}
SCALE = (
    "Red is most evidence for the class, blue little; each map is scaled by its own maximum, so "
    "colors of two maps cannot be compared."
)
CARDS = (
    "display: grid; grid-template-columns: repeat(auto-fill, minmax({width}px, 1fr)); "
    "gap: 16px 12px; margin-top: 16px"
)


def explanations_page(model: str, explanations: Iterable[ImageExplanation]) -> str:
    """Return a page with each image, its probable classes and their class activation maps."""
    found = list(explanations)
    body = "".join(map(_image_section, found))
    methods = "; ".join(dict.fromkeys(METHODS[item.method] for item in found))
    return document(f"What {model} looks at", f"{methods}. {SCALE}", body, plotly=False)


def _image_section(item: ImageExplanation) -> str:
    size = "{}x{}".format(*item.pixels.shape[:2])
    figures = [_figure(image_url(item.pixels), "the image", f"as the network sees it, {size}")]
    rows = zip(item.explained, item.explained_probabilities, item.overlays())
    for label, probability, drawn in rows:
        figures.append(_figure(image_url(drawn, quality=90), label, f"{probability:.1%}"))
    bar = "height: 10px; border-radius: 3px; background: #84a9ec"
    bars = "".join(
        f'<tr><td style="width: 20%">{escape(label)}</td>'
        f'<td style="width: 70%; vertical-align: middle">'
        f'<div style="{bar}; width: {probability:.2%}"></div></td><td>{probability:.2%}</td></tr>'
        for label, probability in zip(item.labels, item.probabilities)
    )
    cards = f'<div style="{CARDS.format(width=190)}">{"".join(figures)}</div>'
    table = f'<table style="margin-top: 16px">{bars}</table>'
    return section(escape(Path(item.name).name), cards + table)


def _figure(url: str, title: str, note: str) -> str:
    return (
        f'<figure><img src="{url}" alt="{escape(title)}"><figcaption><span><b>{escape(title)}</b>'
        f'</span><span class="true">{escape(note)}</span></figcaption></figure>'
    )


@dataclass(frozen=True)
class ExplainedImage:
    """A test image with the class activation map of a class.

    Parameters
    ----------
    index
        Index in the data set.
    pixels, drawn
        The image (H, W, C), and the map drawn over it, uint8.
    truth, explained
        Names of the true classes, and of the predicted class, which is explained.
    probability
        Probability of the explained class, 0 to 1.
    is_right
        Whether the prediction is right; None if that is unknown.
    """

    index: int
    pixels: np.ndarray
    drawn: np.ndarray
    truth: str
    explained: str
    probability: float
    is_right: bool | None


def explained_gallery(title: str, images: Iterable[ExplainedImage]) -> str:
    """Return images beside their maps, under a title; "" if there are none."""
    cards = "".join(map(_card, images))
    if not cards:
        return ""
    return f'<h3>{escape(title)}</h3><div style="{CARDS.format(width=230)}">{cards}</div>'


def _card(image: ExplainedImage) -> str:
    style = {True: "right", False: "wrong", None: "true"}[image.is_right]
    name = f"test image {image.index}"
    return (
        f'<figure title="{name}"><div style="display: grid; grid-template-columns: 1fr 1fr; '
        f'gap: 4px"><img src="{image_url(image.pixels)}" alt="{name}">'
        f'<img src="{image_url(image.drawn, quality=85)}" alt="its map"></div><figcaption>'
        f'<span class="true">true: {escape(image.truth)}</span>'
        f'<span class="{style}">{escape(image.explained)}</span>'
        f'<span class="true">sure to {image.probability:.1%}</span></figcaption></figure>'
    )
