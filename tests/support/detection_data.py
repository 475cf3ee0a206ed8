"""Small data sets with boxes, in each of the formats."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

BACKGROUND, COLORS = (20, 20, 20), ((255, 0, 0), (0, 255, 0), (0, 0, 255))
CLASSES = ("blue", "green", "red")
_COLOR_OF = {"red": COLORS[0], "green": COLORS[1], "blue": COLORS[2]}


def draw(size: tuple[int, int], boxes) -> np.ndarray:
    """Return a dark image (H, W, 3) of ``size`` (height, width) with filled boxes.

    Boxes are (class name, x1, y1, x2, y2) with exclusive ends.
    """
    pixels = np.full((*size, 3), BACKGROUND, np.uint8)
    for name, x1, y1, x2, y2 in boxes:
        pixels[y1:y2, x1:x2] = _COLOR_OF[name]
    return pixels


def random_boxes(rng: np.random.Generator, size: tuple[int, int], count: int) -> list[tuple]:
    """Return boxes of different classes in different columns, so that none covers another."""
    height, width = size
    rows = []
    for number in range(count):
        left, right = (width * edge // count for edge in (number, number + 1))
        x1, x2 = left + int(rng.integers(1, 4)), right - int(rng.integers(1, 4))
        y1 = int(rng.integers(0, height // 2))
        y2 = y1 + int(rng.integers(8, height // 2))
        rows.append((CLASSES[number % 3], x1, y1, x2, y2))
    return rows


def make_images(folder: Path, count: int = 6, seed: int = 0) -> dict[str, tuple]:
    """Write ``0.png``, …; return size and boxes of each by its name."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    found = {}
    for number in range(count):
        size = (60 + 10 * number, 100 - 5 * number)
        boxes = random_boxes(rng, size, number % 3 + 1)
        Image.fromarray(draw(size, boxes)).save(folder / f"{number}.png")
        found[f"{number}.png"] = size, boxes
    return found


def object_xml(name: str, x1, y1, x2, y2, more: str = "<difficult>0</difficult>") -> str:
    """Return an object of VOC's XML; the arguments count from 0, the XML from 1, ends inclusive."""
    corners = f"<xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
    return f"<object><name>{name}</name>{more}<bndbox>{corners}</bndbox></object>"


def annotation_xml(name: str, size: tuple[int, int], objects: str) -> str:
    """Return a VOC annotation."""
    sides = f"<size><width>{size[1]}</width><height>{size[0]}</height><depth>3</depth></size>"
    return f"<annotation><filename>{name}</filename>{sides}{objects}</annotation>"


def make_voc(root: Path, count: int = 6, validation: int = 2) -> Path:
    """Write a data set in VOC's layout; the last images are the split ``val``."""
    images = make_images(root / "JPEGImages", count)
    (root / "Annotations").mkdir()
    (root / "ImageSets/Main").mkdir(parents=True)
    stems = [Path(name).stem for name in images]
    for stem, (name, (size, boxes)) in zip(stems, images.items()):
        text = annotation_xml(name, size, "".join(object_xml(*box) for box in boxes))
        (root / f"Annotations/{stem}.xml").write_text(text)
    for split, part in (("train", stems[:-validation]), ("val", stems[-validation:])):
        (root / f"ImageSets/Main/{split}.txt").write_text("\n".join(part) + "\n")
    return root


def coco_content(images: dict[str, tuple], first_id: int = 7) -> dict:
    """Return images and boxes of :func:`make_images` in COCO's format, with gaps in the ids."""
    rows, boxes = [], []
    for number, (name, (size, found)) in enumerate(images.items()):
        identifier = first_id + 3 * number
        rows.append({"id": identifier, "file_name": name, "height": size[0], "width": size[1]})
        for label, x1, y1, x2, y2 in found:
            box = {"image_id": identifier, "bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": 0}
            category = 10 * CLASSES.index(label) + 1
            boxes.append({**box, "id": len(boxes), "category_id": category})
    categories = [{"id": 10 * n + 1, "name": name} for n, name in enumerate(CLASSES)]
    return {"images": rows, "annotations": boxes, "categories": categories[::-1]}


def make_coco(root: Path, count: int = 6, validation: int = 2) -> Path:
    """Write the data of :func:`make_voc` in COCO's layout."""
    images = make_images(root / "train2017", count)
    (root / "annotations").mkdir()
    (root / "val2017").mkdir()
    names = list(images)
    for split, part in (("train", names[:-validation]), ("val", names[-validation:])):
        content = coco_content({name: images[name] for name in part})
        (root / f"annotations/instances_{split}2017.json").write_text(json.dumps(content))
        (root / f"annotations/captions_{split}2017.json").write_text("{}")
    for name in names[-validation:]:
        (root / "train2017" / name).rename(root / "val2017" / name)
    return root


def csv_text(images: dict[str, tuple], validation: int, header="path,x1,y1,x2,y2,class") -> str:
    """Return images and boxes of :func:`make_images` as a CSV file with splits."""
    lines = [f"{header},split"]
    for number, (name, (_, boxes)) in enumerate(images.items()):
        split = "train" if number < len(images) - validation else "val"
        lines += [f"{name},{x1},{y1},{x2},{y2},{label},{split}" for label, x1, y1, x2, y2 in boxes]
    return "\n".join(lines) + "\n"


def make_csv(root: Path, count: int = 6, validation: int = 2) -> Path:
    """Write the data of :func:`make_voc` as a CSV file beside the images."""
    images = make_images(root, count)
    (root / "boxes.csv").write_text(csv_text(images, validation))
    return root / "boxes.csv"
