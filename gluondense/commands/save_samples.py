"""Write some test images of a run's data set as PNG files, to try scripts/predict.py on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Optional

from PIL import Image

from ..data import load_dataset
from ..training import load
from .arguments import Parser


def main(argv: Optional[list[str]] = None) -> int:
    """Parse, write, print the names; return the process's exit code."""
    parser = Parser(description=__doc__)
    parser.add_argument("run", metavar="RUN_FOLDER")
    parser.add_argument("--count", type=int, default=3, help="how many; default: 3")
    args = parser.parse_args(argv)
    try:
        for path in save_samples(Path(args.run), args.count):
            print(path)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def save_samples(run: Path, count: int) -> list[Path]:
    """Write the first test images to ``run/samples``, each named by its number and true class."""
    config = load(run).config
    data = load_dataset(config["dataset"], config["data_dir"], config["download"])
    folder = run / "samples"
    folder.mkdir(exist_ok=True)
    paths = []
    for number, (image, label) in enumerate(zip(data.test_images[:count], data.test_labels)):
        name = data.info.class_names[label].lower().replace(" ", "-").replace("/", "-")
        paths.append(folder / f"{number}-{name}.png")
        Image.fromarray(image.squeeze()).save(paths[-1])
    return paths


if __name__ == "__main__":
    sys.exit(main())
