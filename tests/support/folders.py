"""Folders and CSV files of images, for several test modules."""

from __future__ import annotations

from pathlib import Path

from support.images import encoded, noisy_image


def make_images(root: Path, names: list[str]) -> None:
    """Write images that all differ; the colour follows from the first letter."""
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = noisy_image(ord(Path(name).parent.name[-1:] or "a"), (24, 20), number)
        path.write_bytes(encoded(image, "PNG"))


def make_csv(root: Path, text: str, header: str = "path,label") -> Path:
    """Write ``root/labels.csv`` of the lines, and an image for each first cell that is a name."""
    root.mkdir(parents=True, exist_ok=True)
    lines = [line.strip() for line in text.strip().splitlines()]
    names = [line.split(",")[0] for line in lines]
    make_images(root, [name for name in dict.fromkeys(names) if name.endswith(".png")])
    path = root / "labels.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path
