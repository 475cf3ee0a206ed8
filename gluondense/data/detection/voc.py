# SPDX-License-Identifier: Apache-2.0
"""Read data sets in the layout of PASCAL VOC.

``Annotations/ID.xml``, ``JPEGImages/ID.jpg`` and lists of IDs ``ImageSets/Main/SPLIT.txt``, in the
folder or in its folders ``VOC2007``, ``VOC2012`` and so on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from ...errors import in_one_line
from ...text import read_text
from .annotations import (
    BadAnnotation,
    RawBox,
    RawImage,
    Size,
    check_split,
    is_coordinate,
    to_number,
)

_LARGEST = 16 << 20  # bytes of an annotation; VOC's largest has 20 KB
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


@dataclass(frozen=True)
class VOC:
    """A folder in VOC's layout, see :class:`.annotations.Reader`.

    Splits are lists of ``ImageSets/Main``. Where ``root`` has several VOC folders, they are named
    with their folder, as ``VOC2007/trainval``. A sum of splits has the images of both:
    ``VOC2007/trainval+VOC2012/trainval``.

    Parameters
    ----------
    root
        The folder.
    image_dir
        Folder of the images; None is ``JPEGImages``.
    """

    root: Path
    image_dir: Path | None = None

    class_names = None  # only the objects name them

    @property
    def origin(self) -> str:
        """The folder in messages."""
        return str(self.root)

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the lists in ``ImageSets/Main``; () if there are none."""
        lists = [path for folder in voc_folders(self.root) for path in _lists(folder).glob("*.txt")]
        return tuple(sorted(map(self._name, lists)))

    def read(self, split: str) -> Iterator[RawImage | BadAnnotation]:
        """Read the images of a split in the order of its lists; ``""`` is all images."""
        if not split:
            for folder in voc_folders(self.root):
                identifiers = (path.stem for path in (folder / "Annotations").glob("*.xml"))
                yield from (self._read(folder, each) for each in sorted(identifiers))
            return
        check_split(self, split)
        for part in split.split("+"):
            year, _, name = part.rpartition("/")
            names = _lists(self.root / year) / f"{name}.txt"
            for number, line in enumerate(read_text(names).split("\n"), 1):
                identifier = line.strip()
                if os.pardir in identifier.split("/") or identifier.startswith("/"):
                    raise ValueError(f"{names} line {number} is not the name of an image")
                if identifier:
                    yield self._read(self.root / year, identifier)

    def _name(self, path: Path) -> str:
        folder = path.parents[2]
        return path.stem if folder == self.root else f"{folder.name}/{path.stem}"

    def _read(self, folder: Path, identifier: str) -> RawImage | BadAnnotation:
        path = folder / "Annotations" / f"{identifier}.xml"
        try:
            size, boxes, file_name = read_xml(path)
        except (ValueError, OSError) as error:
            return error if isinstance(error, BadAnnotation) else BadAnnotation(str(error))
        images = self.image_dir or folder / "JPEGImages"
        known = (images / f"{identifier}{suffix}" for suffix in _SUFFIXES)
        image = next((file for file in known if file.is_file()), None)
        if image is None:
            image = images / (os.path.basename(file_name) or f"{identifier}.jpg")
        return RawImage(image, size, boxes, str(path))


def voc_folders(root: Path) -> list[Path]:
    """Return the folders in VOC's layout: ``root`` or some folders in it."""
    if (root / "Annotations").is_dir():
        return [root]
    return [path.parent for path in sorted(root.glob("*/Annotations")) if path.is_dir()]


def _lists(folder: Path) -> Path:
    return folder / "ImageSets" / "Main"


def read_xml(path: Path) -> tuple[Size | None, list[RawBox], str]:
    """Read an annotation: the image's size, its boxes, and its file name.

    VOC counts pixels from 1 and its ends are inclusive: ``xmin`` 1 and ``xmax`` 2 are the first two
    columns, 0 to 2 here.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    BadAnnotation
        If it cannot be read; the message names the file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no annotation {path}; write one; it may have no objects")
    root = _parse(path)
    size = root.find("size")
    sides = None
    if size is not None:
        sides = tuple(_number(path, size, name) for name in ("height", "width"))
    boxes = []
    for index, item in enumerate(root.findall("object"), 1):
        name, box = (item.findtext("name") or "").strip(), item.find("bndbox")
        if box is None or not name:
            raise BadAnnotation(f"{path} object {index} has no name or no bndbox; add it")
        x1, y1, x2, y2 = (_number(path, box, corner) for corner in _CORNERS)
        # Equal ends are a slip of the annotator, not a box of one pixel.
        corners = x1 - 1, y1 - 1, x2 - (x2 <= x1), y2 - (y2 <= y1)
        difficult = (item.findtext("difficult") or "0").strip() == "1"
        boxes.append(RawBox(name, corners, difficult, f"object {index}"))
    # Some tools write a size of 0: the file of the image has it.
    known = sides is not None and all(side >= 1 for side in sides)
    return (
        (int(sides[0]), int(sides[1])) if sides and known else None,
        boxes,
        (root.findtext("filename") or "").strip(),
    )


def _parse(path: Path) -> ElementTree.Element:
    """Parse XML without a document type, whose entities can expand to gigabytes."""
    if path.stat().st_size > _LARGEST:
        raise BadAnnotation(f"{path} has more than {_LARGEST >> 20} MB; it is not an annotation")
    text = read_text(path)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise BadAnnotation(
            f"{path} has a document type, which VOC's annotations do not; remove it"
        )
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise BadAnnotation(f"{path} is not XML ({in_one_line(error)}); get it again") from None
    if root.tag != "annotation":
        raise BadAnnotation(
            f"{path} has the root {in_one_line(repr(root.tag), 40)}, not annotation"
        )
    return root


def _number(path: Path, parent: ElementTree.Element, name: str) -> float:
    text = (parent.findtext(name) or "").strip()
    number = to_number(text)
    if not is_coordinate(number):
        what = f"has {name} {in_one_line(repr(text), 40)}" if text else f"has no {name}"
        raise BadAnnotation(f"{path} {what} in {parent.tag}; write a number")
    return number
