# SPDX-License-Identifier: Apache-2.0
"""Read data sets in COCO's format: a JSON file a split, with boxes [x, y, width, height]."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import in_one_line, is_count
from ...schema import is_text, list_of
from ...text import read_json
from .annotations import LARGEST, BadAnnotation, RawBox, RawImage, check_split, is_coordinate
from .splits import TRAIN_SPLITS, first_of

_EXPORTED = "_annotations.coco.json"  # in the folder of each split, as Roboflow writes it
_PREFIX = "instances_"  # beside it, COCO has files of captions and keypoints
_LISTS = ("images", "annotations", "categories")


@dataclass(frozen=True)
class COCO:
    """Files in COCO's format, see :class:`.annotations.Reader`.

    Parameters
    ----------
    files
        The JSON file and the folder of the images of each split; the key of a single file is "".
    """

    files: Mapping[str, tuple[Path, Path]]
    # Class names of each file that was read: a file may have hundreds of megabytes.
    _names: dict[Path, tuple[str, ...]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def origin(self) -> str:
        """The file in messages, or the folder of several."""
        path, *others = (path for path, _ in self.files.values())
        return os.path.commonpath((path, *others))

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits; () for a single file."""
        return tuple(sorted(name for name in self.files if name))

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the categories of the training file, in the order of their ids."""
        path, _ = self.files[first_of(tuple(self.files), TRAIN_SPLITS) or next(iter(self.files))]
        if path not in self._names:
            self._names[path] = _class_names(path, _read(path))
        return self._names[path]

    def read(self, split: str) -> Iterator[RawImage | BadAnnotation]:
        """Read the images of a split in the order of their file; ``""`` is all images."""
        if split:
            check_split(self, split)
        for name in split.split("+") if split else self.files:
            path, image_dir = self.files[name]
            content = _read(path)
            self._names[path] = _class_names(path, content)
            yield from _images(path, image_dir, content)


def find_files(root: Path, image_dir: Path | None) -> dict[str, tuple[Path, Path]]:
    """Return the files of a data set in COCO's format, see :class:`COCO`; {} if there are none.

    ``root`` is a JSON file; or a folder with ``annotations/instances_SPLIT.json``, as COCO's
    ``instances_train2017.json``; or one with ``SPLIT/_annotations.coco.json``.
    """
    if root.is_file():
        return {"": (root, image_dir or root.parent)}
    exported = sorted(root.glob(f"*/{_EXPORTED}"))
    if exported:
        return {path.parent.name: (path, image_dir or path.parent) for path in exported}
    paths = sorted((root / "annotations").glob("*.json"))
    paths = [path for path in paths if path.name.startswith(_PREFIX)] or paths
    names = [path.stem.removeprefix(_PREFIX) for path in paths]
    short = [re.sub(r"[_-]?\d{4}$", "", name) for name in names]
    if len(set(short)) < len(short):  # several years
        short = names
    return {
        split: (path, image_dir or _image_folder(root, name, split))
        for split, path, name in zip(short, paths, names)
    }


def _image_folder(root: Path, *names: str) -> Path:
    """Return the first folder that exists of those that the images of a split usually have."""
    known = [root / parent / name for name in names for parent in ("", "images")]
    return next((path for path in (*known, root / "images") if path.is_dir()), root)


def _images(
    path: Path, image_dir: Path, content: Mapping[str, Any]
) -> Iterator[RawImage | BadAnnotation]:
    """Yield the images of a file with their boxes; a ValueError names a file of no use."""
    names = _categories(path, content)
    boxes: dict[Any, list[RawBox | BadAnnotation]] = {}
    for item in content["images"]:
        if not _is_key(item.get("id")) or not is_text(item.get("file_name")):
            raise ValueError(f"{path} has an image without id or file_name; add it")
        if item["id"] in boxes:
            raise ValueError(f"{path} has two images with the id {item['id']!r}; number them")
        boxes[item["id"]] = []
    for number, item in enumerate(content["annotations"]):
        place = f"annotation {in_one_line(item.get('id', number), 40)}"
        image = item.get("image_id")
        if not _is_key(image) or image not in boxes:
            yield BadAnnotation(
                f"{path} {place} names image {in_one_line(repr(image), 40)}, which is not there"
            )
            continue
        boxes[image].append(_box(path, place, item, names))
    for item in content["images"]:
        yield _image(path, image_dir, item, boxes[item["id"]])


def _read(path: Path) -> dict[str, Any]:
    """Parse a file; raise a ValueError unless it has COCO's three lists of objects."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not an object as COCO's, with {', '.join(_LISTS)}")
    for name in _LISTS:
        if not list_of(lambda item: isinstance(item, dict))(content.get(name)):
            raise ValueError(f"{path} has no list of objects {name!r} as COCO's")
    return content


def _categories(path: Path, content: Mapping[str, Any]) -> dict[Any, str]:
    """Return the name of each category by its id."""
    names: dict[Any, str] = {}
    for item in content["categories"]:
        if not isinstance(item.get("id"), int) or not is_text(item.get("name")):
            raise ValueError(f"{path} has a category without an integer id or a name; add it")
        if item["id"] in names or item["name"] in names.values():
            name = in_one_line(item["name"], 40)
            raise ValueError(f"{path} has two categories of the id or the name of {name!r}")
        names[item["id"]] = item["name"]
    return names


def _class_names(path: Path, content: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the categories with objects, in the order of their ids."""
    names, groups = _categories(path, content), _groups(content)
    return tuple(names[key] for key in sorted(names) if names[key] not in groups)


def _groups(content: Mapping[str, Any]) -> set[str]:
    """Return the categories without objects under which Roboflow puts all others."""
    parents = {str(item.get("supercategory")) for item in content["categories"]}
    roots = (item for item in content["categories"] if item.get("supercategory") == "none")
    return {item["name"] for item in roots} & parents


def _box(
    path: Path, place: str, item: Mapping[str, Any], names: Mapping[Any, str]
) -> RawBox | BadAnnotation:
    box, category = item.get("bbox"), item.get("category_id")
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_coordinate, box)):
        text = in_one_line(repr(box), 60)
        return BadAnnotation(f"{path} {place} has the bbox {text}; write [x, y, width, height]")
    x, y, width, height = map(float, box)
    known = _is_key(category) and category in names
    name = names[category] if known else f"category {in_one_line(repr(category), 40)}"
    crowd = item.get("iscrowd") in (1, True)
    return RawBox(name, (x, y, x + width, y + height), crowd, place)


def _image(
    path: Path, image_dir: Path, item: Mapping[str, Any], boxes: Iterable[RawBox | BadAnnotation]
) -> RawImage | BadAnnotation:
    name, height, width = item["file_name"], item.get("height", 0), item.get("width", 0)
    if os.path.isabs(name) or os.pardir in name.split("/") or not name.isprintable():
        text = in_one_line(repr(name), 200)
        return BadAnnotation(f"{path} has the file_name {text}, which leaves the image folder")
    good = []
    for box in boxes:
        if isinstance(box, BadAnnotation):
            return box
        good.append(box)
    known = is_count(height) and is_count(width) and max(height, width) < LARGEST
    return RawImage(image_dir / name, (height, width) if known else None, good, str(path))


def _is_key(value: Any) -> bool:
    return isinstance(value, (int, str))
