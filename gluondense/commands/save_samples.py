# SPDX-License-Identifier: Apache-2.0
"""Write test images of a run's data set as PNG files, to try ``gluondense predict`` on."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Optional

from .output import call
from .parser import Parser


def main(argv: Optional[list[str]] = None) -> int:
    """Write the images, print their paths; return the exit code."""
    parser = Parser(description=__doc__)
    parser.add_argument("run", metavar="RUN_FOLDER")
    parser.add_argument("--count", type=int, default=3, help="number of images (default: 3)")
    return call(_run, parser.parse_args(argv))


def _run(args: argparse.Namespace) -> None:
    for path in save_samples(Path(args.run), args.count):
        print(path)


def save_samples(run: Path, count: int) -> list[Path]:
    """Write the first test images to ``run/samples``, named by index and true class."""
    from PIL import Image

    from ..data.datasets.registry import load_dataset
    from ..training.checkpoint.read import load
    from ..training.config import TrainConfig

    config = TrainConfig.from_dict(load(run).config).data
    data = load_dataset(config.dataset, config.data_dir, config.download)
    folder = run / "samples"
    folder.mkdir(exist_ok=True)
    paths = []
    for number, (image, label) in enumerate(zip(data.test_images[:count], data.test_labels)):
        name = data.info.class_names[label].lower().replace(" ", "-").replace("/", "-")
        paths.append(folder / f"{number}-{name}.png")
        Image.fromarray(image.squeeze()).save(paths[-1])
    return paths
