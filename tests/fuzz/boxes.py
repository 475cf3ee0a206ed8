"""Readers of images with boxes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from fuzz.mutation import Files
from fuzz.reader import Reader
from support.detection_data import annotation_xml, coco_content, csv_text, make_images, object_xml
from support.images import encoded, gradient

from gluondense.data.detection.annotations import Annotations
from gluondense.data.detection.coco import COCO, find_files
from gluondense.data.detection.csv_boxes import CSVBoxes
from gluondense.data.detection.problems import Problems
from gluondense.data.detection.source import DetectionSource
from gluondense.data.detection.splits import found_names
from gluondense.data.detection.validation import validate
from gluondense.data.detection.voc import VOC

IMAGE = encoded(gradient("RGB", (130, 130)))  # larger than the boxes need


def xml_files(folder: Path) -> list[Files]:
    difficult = "<difficult>1</difficult>"
    objects = object_xml("cat", 1, 2, 30, 40) + object_xml("dog", 0, 0, 100, 60, difficult)
    texts = annotation_xml("a.jpg", (60, 100), objects), annotation_xml("b.jpg", (60, 100), "")
    return [{"a.xml": f'<?xml version="1.0"?>\n{text}'.encode()} for text in texts]


def read_voc(folder: Path) -> None:
    """Read a data set of one image whose annotation is ``a.xml``."""
    for name in ("Annotations", "JPEGImages"):
        (folder / name).mkdir()
    (folder / "JPEGImages/a.jpg").write_bytes(IMAGE)
    (folder / "a.xml").rename(folder / "Annotations/a.xml")
    check(VOC(folder))


def lists(folder: Path) -> list[Files]:
    return [{"train.txt": b"a\nb\n"}]


def read_lists(folder: Path) -> None:
    """Read a split of two images without annotations."""
    (folder / "Annotations").mkdir()
    (folder / "ImageSets/Main").mkdir(parents=True)
    (folder / "train.txt").rename(folder / "ImageSets/Main/train.txt")
    list(VOC(folder).read("train"))


def json_files(folder: Path) -> list[Files]:
    content = coco_content(make_images(folder / "images", 3))
    return [{"a.json": json.dumps(content).encode()}]


def read_coco(folder: Path) -> None:
    for number in range(3):
        (folder / f"{number}.png").write_bytes(IMAGE)
    reader = COCO(find_files(folder / "a.json", None))
    assert isinstance(reader.class_names, tuple)
    check(reader)


def csv_files(folder: Path) -> list[Files]:
    images = make_images(folder / "images", 3)
    other = "filename,xmin,ymin,xmax,ymax,label"
    return [{"a.csv": csv_text(images, 1, *header).encode()} for header in ((), (other,))]


def read_csv(folder: Path) -> None:
    for number in range(3):
        (folder / f"{number}.png").write_bytes(IMAGE)
    reader = CSVBoxes(folder / "a.csv", folder)
    for split in ("", *reader.splits):
        check(reader, split)


def check(reader, split: str = "") -> None:
    """Check all boxes: left out or clipped if bad, and an error where bad ones are one."""
    names = found_names(reader.read(split))
    for bad in ("skip", "clip", "error"):
        problems = Problems(bad)
        found: Annotations = validate(reader.read(split), names, problems)
        boxes, counts = found.boxes, np.diff(found.first)
        ends = np.repeat(found.sizes[:, ::-1], counts, axis=0)
        assert np.isfinite(boxes).all()
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2:4] > boxes[:, :2]).all()
        assert (boxes[:, 2:4] <= ends).all()
        assert DetectionSource(found).most_boxes == counts.max(initial=0)
        assert all("\n" not in problem.message for problem in problems.found)


READERS = (
    Reader("VOC annotation (xml)", xml_files, read_voc),
    Reader("VOC split (txt)", lists, read_lists),
    Reader("COCO (json)", json_files, read_coco),
    Reader("CSV of boxes", csv_files, read_csv),
)
