# SPDX-License-Identifier: Apache-2.0
"""Boxes drawn on images: in pixels, and as an overlay of an HTML page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from .page import image_url

HALO = "#ffffff"  # around lines, so that they are visible on dark and on light images


@dataclass(frozen=True)
class Box:
    """A box to draw.

    Parameters
    ----------
    corners
        x1, y1, x2, y2 in pixels of the image.
    color
        Color of the line, ``"#rrggbb"``.
    label
        Text beside it; "" for none.
    hint
        Text of an overlay when the pointer is on the line; "" for none.
    dashed
        Whether an overlay's line is dashed.
    """

    corners: Sequence[float]
    color: str
    label: str = ""
    hint: str = ""
    dashed: bool = False


def draw_boxes(pixels: np.ndarray, boxes: Iterable[Box]) -> np.ndarray:
    """Return an image with boxes and their labels drawn on it, uint8 (H, W, 3).

    ``pixels`` are uint8 (H, W, C) with one or three channels. Lines and text are in proportion to
    the image. The first boxes are on top.

    Examples
    --------
    >>> drawn = draw_boxes(np.zeros((20, 40, 3), np.uint8), [Box((5, 5, 30, 15), "#ff0000")])
    >>> drawn[5, 10].tolist(), drawn[10, 20].tolist()
    ([255, 0, 0], [0, 0, 0])
    """
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
    draw = ImageDraw.Draw(image)
    width = max(1, round(min(image.size) / 200))
    font = ImageFont.load_default(max(10, round(min(image.size) / 32)))
    for box in reversed(list(boxes)):
        _draw_box(draw, box, image.size, width, font)
    return np.asarray(image)


def _draw_box(
    draw: ImageDraw.ImageDraw,
    box: Box,
    size: tuple[int, int],
    width: int,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
) -> None:
    # The last pixel is within the box, whose end is exclusive; Pillow refuses inverted boxes.
    x1, y1 = (round(value) for value in box.corners[:2])
    x2, y2 = (max(low, round(value) - 1) for low, value in zip((x1, y1), box.corners[2:]))
    draw.rectangle((x1 - width, y1 - width, x2 + width, y2 + width), outline=HALO, width=1)
    draw.rectangle((x1, y1, x2, y2), outline=box.color, width=width)
    if not box.label:
        return
    left, top, right, bottom = draw.textbbox((0, 0), box.label, font)
    wide, high = right - left + 2 * width + 2, bottom - top + 2 * width + 2
    # Above the box, or inside it at the upper edge of the image.
    x = max(0, min(x1, size[0] - wide))
    y = y1 - high if y1 >= high else max(y1, 0)
    draw.rectangle((x, y, x + wide, y + high), fill=box.color)
    at = x + width + 1 - left, y + width + 1 - top
    draw.text(at, box.label, _text_color(box.color), font)


def _text_color(background: str) -> str:
    red, green, blue = ImageColor.getrgb(background)[:3]
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "#ffffff"


def overlay(pixels: np.ndarray, size: tuple[float, float], boxes: Iterable[Box], name: str) -> str:
    """Return HTML of an image, uint8 (H, W, C), with boxes that scale with it.

    Boxes are in pixels of an image of ``size`` (width, height), to which ``pixels`` are stretched.
    ``name`` is plain text that describes the image.
    """
    width, height = size
    unit = max(width / 300, height / 360)  # about a pixel of the page
    # The first boxes are on top.
    shapes = "".join(_shape(box, size, unit) for box in reversed(list(boxes)))
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(name)}">'
        f'<image href="{image_url(pixels, quality=85)}" width="{width:g}" height="{height:g}" '
        f'preserveAspectRatio="none"/>{shapes}</svg>'
    )


def _shape(box: Box, size: tuple[float, float], unit: float) -> str:
    x1, y1, x2, y2 = (float(value) for value in box.corners)
    place = (
        f'x="{x1:.1f}" y="{y1:.1f}" width="{max(x2 - x1, 0):.1f}" height="{max(y2 - y1, 0):.1f}"'
    )
    dashes = ' stroke-dasharray="6 4"' if box.dashed else ""
    shape = (
        f'<rect {place} stroke="{HALO}" stroke-width="3.5" stroke-opacity="0.6"{dashes}/>'
        f'<rect {place} stroke="{box.color}" stroke-width="2"{dashes}/>'
    )
    if box.label:
        font = 11 * unit
        x = max(0.0, min(x1, size[0] - 0.6 * font * len(box.label)))
        # Above the box, or inside it at the upper edge of the image.
        y = y1 - 3 * unit if y1 > 1.3 * font else max(y1, 0.0) + font
        shape += (
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{font:.1f}" stroke-width="{2 * unit:.1f}" '
            f'fill="#ffffff">{escape(box.label)}</text>'
        )
    hint = f"<title>{escape(box.hint)}</title>" if box.hint else ""
    return f"<g>{hint}{shape}</g>"
