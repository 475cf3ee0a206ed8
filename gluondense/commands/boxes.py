# SPDX-License-Identifier: Apache-2.0
"""The output of `gluondense predict` for detectors: tables, and images with boxes drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from ..deploy.detection import Detection


def table(found: Detection) -> str:
    """Return a line for each box of an image: class, probability and corners."""
    width = max((len(box["class"]) for box in found.boxes), default=0)
    lines = [
        f"  {box['class']:<{width}}  {box['probability']:7.2%}  "
        + " ".join(f"{corner:7.1f}" for corner in box["box"])
        for box in found.boxes
    ]
    return "\n".join([found.image, *(lines or ["  no box"])])


def write_images(
    folder: str, predictions: Sequence[Detection], class_names: Optional[Sequence[str]]
) -> None:
    """Write each image as ``NAME.png`` into a folder, with its boxes drawn.

    Images of one name in different folders get numbers.
    """
    import numpy as np
    from PIL import Image

    from ..data.files.image import open_image
    from ..graph.ir import free_name
    from ..reports.boxes import Box, draw_boxes
    from ..reports.palette import class_color

    Path(folder).mkdir(parents=True, exist_ok=True)
    taken: set[str] = set()
    for found in predictions:
        drawn = []
        for box in found.boxes:
            name = box["class"]
            color = class_color(class_names.index(name) if class_names else int(name))
            drawn.append(Box(box["box"], color, f"{name} {box['probability']:.0%}"))
        pixels = np.asarray(open_image(found.image, found.image).convert("RGB"))
        name = free_name(Path(found.image).stem, taken)
        Image.fromarray(draw_boxes(pixels, drawn)).save(Path(folder, f"{name}.png"))
