# SPDX-License-Identifier: Apache-2.0
"""Compare the answers of a run, its export, ``predict`` and multi-model-server for all images.

``python scripts/dev/same_answers.py RUN DATA/val`` classifies every image of the class folders in
``DATA/val``, and copies of them padded to other aspect ratios, with

- ``gluondense evaluate RUN`` and ``gluondense evaluate EXPORT``,
- ``gluondense predict EXPORT``,
- HTTP requests to multi-model-server with the archive of the export.

It prints the top-1 accuracy of each, and how many answers differ from those of the run.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

import gluondense
from gluondense.data.datasets.imagenet import ImageFiles, readable
from gluondense.data.files.image_list import ImageList, list_folders
from gluondense.data.files.sources import FolderSource
from gluondense.deploy import archive, predict
from gluondense.evaluation import evaluate_model, open_model, open_test_data
from gluondense.training import checkpoint
from gluondense.training.devices import find_devices

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarking.servers import ModelServer, model_server

RATIOS = {"4:3": 4 / 3, "16:9": 16 / 9, "1:2": 1 / 2}
CLIENTS, CHUNK = 4, 128


@dataclass(frozen=True)
class Paths:
    """The ways to classify images: a run, its export, and a server with the export's archive."""

    run: str
    export: str
    server: ModelServer
    names: tuple[str, ...]

    def answers(self, images: ImageList) -> dict[str, np.ndarray]:
        """Return the class of the highest probability of each image, by each way."""
        files = [str(images.path(index)) for index in range(len(images))]
        ways: dict[str, Callable[[], np.ndarray]] = {
            "evaluate RUN": lambda: self._evaluated(self.run, images),
            "evaluate EXPORT": lambda: self._evaluated(self.export, images),
            "predict EXPORT": lambda: self._predicted(files),
            "multi-model-server": lambda: self._served(files),
        }
        return {name: answer() for name, answer in ways.items()}

    def _evaluated(self, name: str, images: ImageList) -> np.ndarray:
        info = replace(open_test_data("synthetic").info, name="images", class_names=self.names)
        labels = np.zeros(len(images), np.int64)  # predictions do not depend on the labels
        data = ImageFiles(info, None, FolderSource(replace(images, labels=labels)))
        devices = find_devices(())
        return evaluate_model(open_model(name, devices), data, devices).predictions.predicted

    def _predicted(self, files: Sequence[str]) -> np.ndarray:
        net = gluondense.load_exported(self.export)
        chunks = (files[at : at + CHUNK] for at in range(0, len(files), CHUNK))
        found = (answer for chunk in chunks for answer in predict(net, chunk, top=1))
        return np.array([self.names.index(answer.labels[0]) for answer in found])

    def _served(self, files: Sequence[str]) -> np.ndarray:
        def ask(file: str) -> int:
            response = self.server.predict("model", Path(file).read_bytes())
            if response.status != 200:
                raise RuntimeError(f"{file}: {response.body!r}")
            answer: Any = response.json()
            return self.names.index(answer[0]["class"])

        with ThreadPoolExecutor(CLIENTS) as pool:
            return np.array(list(pool.map(ask, files)))


def padded(images: ImageList, ratio: float, folder: Path) -> ImageList:
    """Write copies of images, padded with black to an aspect ratio, width over height."""
    for index in range(len(images)):
        with Image.open(images.path(index)) as opened:
            image = ImageOps.exif_transpose(opened).convert("RGB")
        side = max(image.size)
        size = (round(side * ratio), side) if ratio > 1 else (side, round(side / ratio))
        path = folder / Path(images.name(index)).with_suffix(".bmp")
        path.parent.mkdir(parents=True, exist_ok=True)
        ImageOps.pad(image, size, color=0).save(path)
    names = np.array(
        [f"{Path(images.name(i)).with_suffix('.bmp')}".encode() for i in range(len(images))]
    )
    return replace(images, root=folder, names=names)


def compare(
    run: str, folders: Sequence[str], target: str = "native", limit: int | None = None
) -> Iterator[dict[str, Any]]:
    """Yield a row per set of images: the number of images, accuracies, and differing answers.

    Parameters
    ----------
    run
        The run's folder.
    folders
        Folders that have one subfolder per class. Of the first one, padded copies are compared too.
        The accuracy is None if the classes of a folder are not those of the run.
    target
        Target of the export, which takes pixels and returns probabilities.
    limit
        Largest number of images of a set, at equal distances; None for all.
    """
    saved = checkpoint.load(run)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        gluondense.export(
            saved.network(),
            folder / "export",
            saved.input_shape,
            target,
            class_names=saved.class_names,
            preprocess=True,
            output="probabilities",
        )
        archive(folder / "export", folder / "store" / "model.mar")
        with model_server(folder / "store", folder) as server:
            response = server.register("model.mar", batch_size=CLIENTS)
            if response.status != 200:
                raise RuntimeError(f"multi-model-server refuses the archive: {response.body!r}")
            paths = Paths(run, str(folder / "export"), server, saved.class_names)
            for number, path in enumerate(folders):
                images = _some(list_folders(path), limit)
                known = readable(images.class_names) == saved.class_names
                labels = images.labels if known else None
                yield _row(path, paths.answers(images), labels)
                for shape, ratio in RATIOS.items() if number == 0 else ():
                    with tempfile.TemporaryDirectory() as copies:
                        answers = paths.answers(padded(images, ratio, Path(copies)))
                    yield _row(f"{path}, padded to {shape}", answers, labels)


def _some(images: ImageList, limit: int | None) -> ImageList:
    count = min(len(images), limit or len(images))
    chosen = np.arange(count) * len(images) // count
    return replace(images, names=images.names[chosen], labels=images.labels[chosen])


def _row(name: str, answers: dict[str, np.ndarray], labels: np.ndarray | None) -> dict[str, Any]:
    first = next(iter(answers.values()))
    return {
        "images": name,
        "count": len(first),
        "top1": {
            way: None if labels is None else float((found == labels).mean())
            for way, found in answers.items()
        },
        "different": {way: int((found != first).sum()) for way, found in answers.items()},
    }


def main(argv: list[str] | None = None) -> int:
    """Print a line per set of images; return 1 if any answer differs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("run", help="the run's folder")
    parser.add_argument("folders", nargs="+", help="folders with one subfolder per class")
    parser.add_argument("--target", default="native")
    parser.add_argument("--limit", type=int, help="largest number of images of a set")
    args = parser.parse_args(argv)
    different = 0
    for row in compare(args.run, args.folders, args.target, args.limit):
        print(f"{row['images']}: {row['count']:,} images")
        for way, top1 in row["top1"].items():
            accuracy = "" if top1 is None else f"top-1 {top1:.3%}, "
            print(f"  {way:18}  {accuracy}{row['different'][way]} answers differ", flush=True)
        different += sum(row["different"].values())
    return int(different > 0)


if __name__ == "__main__":
    raise SystemExit(main())
