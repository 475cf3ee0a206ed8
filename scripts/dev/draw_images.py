# SPDX-License-Identifier: Apache-2.0
"""Draw the images of the docs that show photos, and write the values of the feature reuse figure.

python scripts/dev/draw_images.py SHARED [--run RUN]

SHARED/data has the weights, CIFAR-10 and BCCD. The boxes of a detector are kept in
docs/results/bccd/boxes.json; --run makes them anew with a run on BCCD.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Optional

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import gluondense
from gluondense.commands.output import call
from gluondense.commands.parser import Parser
from gluondense.data.datasets.cifar import CIFAR10_CLASSES
from gluondense.data.detection.dataset import open_detection
from gluondense.data.detection.loader import DetectionLoader
from gluondense.data.detection.train_transform import TrainTransform
from gluondense.data.preprocessing import IMAGENET
from gluondense.explain import feature_reuse
from gluondense.explain.images import explain_images
from gluondense.reports.boxes import Box, draw_boxes
from gluondense.reports.palette import LOSS, TEST, TRAIN, class_color

DOCS = Path(__file__).parents[2] / "docs"
BOXES = DOCS / "results" / "bccd" / "boxes.json"
REUSE = DOCS / "results" / "explain" / "reuse.json"
PHOTOS = (0, 6)  # test images of CIFAR-10
AUGMENTATIONS = (
    ("mosaic",),
    ("mixup",),
    ("crop",),
    ("expand",),
    ("flip", "crop", "expand", "mosaic", "mixup", "color_jitter"),
)
EPOCH = 1  # each of them changes the first image in this epoch
GAP, LINE = 8, 34


def network(shared: Path) -> Any:
    """Return the DenseNet-BC of 40 layers with HazyResearch's weights."""
    weights = shared / "data/weights/densenet-bc-40-12-cifar10.pth.tar"
    return gluondense.get_model("densenet40_k12_bc_cifar10", pretrained=weights)


def cam(shared: Path) -> np.ndarray:
    """Return test images of CIFAR-10 with the maps of their three most probable classes."""
    sheet = np.asarray(Image.open(shared / "data/cifar10/test_batch.webp").convert("RGB"))
    net, rows = network(shared), []
    images = replace(net.preprocessing, crop_ratio=1.0)
    for number in PHOTOS:
        pixels = sheet[:32, 32 * number : 32 * (number + 1)]
        (found,) = explain_images(net, [encoded(pixels)], images, CIFAR10_CLASSES)
        drawn = found.overlays()
        factor = len(drawn[0]) // 32
        panels = [("the image", pixels.repeat(factor, axis=0).repeat(factor, axis=1))]
        titles = zip(found.explained, found.explained_probabilities)
        panels += [(f"{name}, {share:.1%}", map_) for (name, share), map_ in zip(titles, drawn)]
        rows.append(np.hstack([_titled(*panel) for panel in panels]))
    return np.vstack(rows)


def augmentations(shared: Path) -> np.ndarray:
    """Return an image of BCCD with each augmentation, and with all at once."""
    data = open_detection(str(shared / "data/bccd"))
    images = replace(IMAGENET, resize="letterbox", input_size=256)
    parts = []
    for names in AUGMENTATIONS:
        loader = DetectionLoader(data.train, TrainTransform(images, names), batch_size=1)
        pixels, labels = next(iter(loader.batches(epoch=EPOCH)))
        boxes = [Box(row[:4], class_color(int(row[4]))) for row in labels[0] if row[4] >= 0]
        title = names[0] if len(names) == 1 else "all at once"
        parts.append(_titled(title, draw_boxes(pixels[0], boxes)))
    return np.hstack(parts)


def report(shared: Path) -> np.ndarray:
    """Return test images of BCCD with the right, missed and invented boxes of a run."""
    colors = {"right": LOSS, "missed": TRAIN, "invented": TEST}
    rows = []
    for photo in json.loads(BOXES.read_text(encoding="utf-8")):
        image = Image.open(shared / "data/bccd/JPEGImages" / photo["image"]).convert("RGB")
        boxes = [
            Box([value / 2 for value in corners], colors[kind], label)
            for kind in colors
            for corners, label in photo[kind]
        ]
        small = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
        title = ", ".join(f"{len(photo[kind])} {kind}" for kind in colors)
        rows.append(_titled(title, draw_boxes(np.asarray(small), boxes)))
    return np.vstack([np.hstack(rows[:3]), np.hstack(rows[3:])])


# The file of each image in docs/assets.
IMAGES: dict[str, Callable[[Path], np.ndarray]] = {
    "explain/cam.png": cam,
    "detection/augmentations.jpg": augmentations,
    "detection/report.jpg": report,
}


def reuse(shared: Path) -> list[dict[str, Any]]:
    """Return the feature reuse of the network, each column scaled by its maximum."""
    return [
        {
            "stage": stage.stage,
            "sources": stage.sources,
            "readers": stage.readers,
            "shares": [
                [None if np.isnan(share) else round(float(share), 3) for share in row]
                for row in stage.scaled()
            ],
        }
        for stage in feature_reuse(network(shared))
    ]


def boxes_of(run: Path, shared: Path) -> list[dict[str, Any]]:
    """Return the boxes of the test images with the most mistakes of a run on BCCD."""
    from gluondense.evaluation import evaluate_model, open_model
    from gluondense.reports.detections import image_boxes, most_mistakes
    from gluondense.training.devices import find_devices

    devices = find_devices(())
    model = open_model(str(run), devices)
    data = open_detection(
        str(shared / "data/bccd"), class_names=model.class_names, val="test", training=False
    )
    summary = evaluate_model(model, data, devices).summary  # type: ignore[union-attr]
    photos = []
    for index in most_mistakes(summary, 6).tolist():
        photo: dict[str, Any] = {"image": Path(data.test.name(index)).name}
        photo.update(right=[], missed=[], invented=[])
        for box in image_boxes(summary, index)[0]:
            kind = box.hint.partition(":")[0]
            if kind in photo:
                corners = [round(float(value), 1) for value in box.corners]
                photo[kind].append([corners, box.label])
        photos.append(photo)
    return photos


def encoded(pixels: np.ndarray, suffix: str = ".png") -> bytes:
    """Return an image file, PNG or JPEG."""
    buffer = io.BytesIO()
    kind = "jpeg" if suffix == ".jpg" else "png"
    Image.fromarray(pixels).save(buffer, kind, quality=88)
    return buffer.getvalue()


def _titled(title: str, pixels: np.ndarray) -> np.ndarray:
    """Return an image with a line of text below it, and a margin."""
    height, width = pixels.shape[:2]
    image = Image.new("RGB", (width + GAP, height + LINE), "white")
    image.paste(Image.fromarray(pixels), (GAP // 2, GAP // 2))
    font = ImageFont.load_default(14)
    ImageDraw.Draw(image).text((GAP // 2, height + GAP), title, "#1d2433", font)
    return np.asarray(image)


def main(argv: Optional[list[str]] = None) -> int:
    """Write the files; return the exit code."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path, help="folder with data/weights, cifar10 and bccd")
    parser.add_argument("--run", type=Path, help="run of which to draw the boxes")
    return call(_run, parser.parse_args(argv))


def _run(args: argparse.Namespace) -> None:
    if args.run is not None:
        _write(BOXES, boxes_of(args.run, args.shared))
    _write(REUSE, reuse(args.shared))
    for name, draw in IMAGES.items():
        path = DOCS / "assets" / name
        path.write_bytes(encoded(draw(args.shared), path.suffix))


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
