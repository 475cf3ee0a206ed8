# SPDX-License-Identifier: Apache-2.0
"""Evaluate a run, an export or published weights on a data set's test images."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from ..text import read_json
from .arguments import DATASETS, add_preprocessing, add_weights_file, preprocessing_fields
from .output import call
from .parser import Parser
from .train.flags import NAMES as TRAIN_NAMES

if TYPE_CHECKING:
    from ..data.detection.dataset import DetectionFiles
    from ..evaluation.evaluate import AnyEvaluation
    from ..evaluation.model import EvaluatedModel
    from ..training.configuration.sections import DataConfig
    from ..training.data import Data

NAMES = {"gpus": "--num-gpus", "size": "--input-size"} | {
    name: f"{TRAIN_NAMES.get(name) or '--' + name.replace('_', '-')} of gluondense train folder"
    for name in ("path_column", "label_columns", "split_column", "group_column")
}


def main(argv: Optional[list[str]] = None) -> int:
    """Print the metrics, write what was asked for; return the exit code."""
    parser = Parser(names=NAMES, description=__doc__)
    add = parser.add_argument
    add(
        "model",
        help="a run's folder, an export's prefix, weights such as densenet121.tv_in1k, or a "
        "weights file",
    )
    add_weights_file(parser)
    add("--dataset", choices=DATASETS, help="default: that of the run or weights, else imagenet")
    add(
        "--data-dir",
        metavar="FOLDER",
        help="folder, .csv or .json file of its files; default: the run's",
    )
    add(
        "--image-dir",
        metavar="FOLDER",
        help="folder of the images of a .csv file or a run, if moved",
    )
    add("--data-of", metavar="RUN_FOLDER", help="evaluate on the images of this run")
    add(
        "--split",
        choices=("train", "val", "test"),
        help="split of a folder, a CSV file or a data set of boxes; default: val",
    )
    add("--rec-val", metavar="FILE.rec", help="images in a RecordIO file")
    add("--ground-truth", metavar="FILE", help="labels of a flat DATA_DIR/val")
    add("--class-map", metavar="FILE.json", help='{"class of the data": "class of the model"}')
    add("--crops", type=int, choices=(1, 10), default=1, help="crops of an image; default: 1")
    add(
        "--batch-size",
        type=int,
        help="images per step on all devices; default: 32, or 8 for ten crops and detectors",
    )
    add(
        "-j",
        "--num-data-workers",
        dest="workers",
        type=int,
        default=4,
        help="processes that decode images; default: 4",
    )
    add("--num-gpus", type=int, default=0, help="number of GPUs; default: the CPU")
    add("--json", metavar="FILE", help="write all metrics, including those of each class")
    add("--report", metavar="FILE.html", help="write a page with tables and figures")
    add_preprocessing(parser)
    return call(_run, parser.parse_args(argv))


def _run(args: argparse.Namespace) -> None:
    for path in filter(None, (args.json, args.report)):  # an evaluation may take hours
        if not Path(path).absolute().parent.is_dir():
            raise FileNotFoundError(f"can't write {path}: name a file in a folder that exists.")
    evaluation = _evaluate(args)
    print("\n".join(evaluation.lines()))
    if args.json:
        text = json.dumps(evaluation.to_dict(), indent=2, ensure_ascii=False) + "\n"
        Path(args.json).write_text(text, encoding="utf-8")
    if args.report:
        Path(args.report).write_text(evaluation.page(), encoding="utf-8")


def _evaluate(args: argparse.Namespace) -> AnyEvaluation:
    from ..data.datasets.registry import DATASETS as DATASET_INFO
    from ..evaluation.evaluate import evaluate_model
    from ..evaluation.model import open_model
    from ..training.devices import find_devices

    devices = find_devices(tuple(range(args.num_gpus)))
    weights = {"fields": dict(args.set), "allow_nan": args.allow_nan}
    model = open_model(args.model, devices, args.network, **weights)
    fields = preprocessing_fields(args)
    if model.preprocessing is None and not hasattr(model.net, "metadata"):
        info = DATASET_INFO.get(args.dataset or model.dataset)
        fields["input_size"] = fields["input_size"] or (info.image_size if info else None)
    model = model.adjusted(**fields)
    data = _open_data(args, model)
    is_large = args.crops > 1 or model.task == "detection"
    batch = args.batch_size or (8 if is_large else 32)
    names = _read_class_map(args.class_map) if args.class_map else None
    return evaluate_model(model, data, devices, args.crops, batch, args.workers, names)


def _open_data(args: argparse.Namespace, model: EvaluatedModel) -> Data | DetectionFiles:
    """Open the images of the run, or those that the flags name."""
    from ..data.datasets.folder.open import FolderImages
    from ..evaluation.evaluate import open_test_data
    from ..training.checkpoint.read import load
    from ..training.config import TrainConfig
    from ..training.data import open_data
    from ..training.run_data import open_run_data, warn_of_training_images, with_current_paths

    config, truth = model.config, args.ground_truth
    if args.data_of:
        config = TrainConfig.from_dict(load(args.data_of).config).data
    if config is not None:
        config = with_current_paths(args.data_of or args.model, config)
    dataset = args.dataset or (config.dataset if config else model.dataset)
    same = config if config is not None and config.dataset == dataset else None
    if dataset == "detection":
        return _open_boxes(args, model, same)
    if same is not None and not (args.data_dir or args.rec_val):
        moved, truth = args.image_dir or same.image_dir, truth or same.ground_truth
        own = replace(same, image_dir=moved, ground_truth=truth, download=True)
        data = open_run_data(args.data_of or args.model, own)
    elif dataset == "folder":
        default = TrainConfig.of("densenet121", dataset="folder").data
        columns = same or default
        if args.data_dir and not args.data_dir.lower().endswith(".csv"):
            if columns.multi_label:
                raise ValueError(
                    f"--data-dir {args.data_dir} must be a .csv file: the run has several labels "
                    "per image, which class folders can't give."
                )
            columns = default
        other = replace(columns, data_dir=args.data_dir, image_dir=args.image_dir)
        data = open_data(other, training=False)
        warn_of_training_images(data, args.data_of or args.model)
    elif dataset == "imagenet" and not (args.data_dir or args.rec_val):
        raise ValueError(
            "name the images: --data-of RUN_FOLDER, --data-dir FOLDER or --rec-val FILE.rec."
        )
    else:
        data = open_test_data(dataset, args.data_dir, args.rec_val, truth)
    if args.split is None:
        return data
    if not isinstance(data, FolderImages):
        raise ValueError(f"--split {args.split} is for images in folders, not for {dataset}.")
    return data.with_part(args.split)


def _open_boxes(
    args: argparse.Namespace, model: EvaluatedModel, config: Optional[DataConfig]
) -> DetectionFiles:
    """Open images with boxes, whose classes are the model's: those of the flags or of the run."""
    from ..data.detection.dataset import open_detection

    if args.data_dir or config is None:
        if not args.data_dir:
            raise ValueError("name the images: --data-of RUN_FOLDER or --data-dir DATA.")
        paths = args.data_dir, args.image_dir
        options = {"val": args.split, "training": False}
    else:
        paths = config.data_dir, args.image_dir or config.image_dir
        # As in training, so that images without splits are divided as there.
        options = {
            "train": config.train_split,
            "val": args.split or config.val_split,
            "bad": config.bad_images,
            "validation_share": config.validation_share,
            "split_seed": config.split_seed,
        }
    return open_detection(*paths, class_names=model.class_names, **options)


def _read_class_map(path: str) -> dict[str, str]:
    try:
        names = read_json(path)
    except ValueError as error:
        raise ValueError(f"--class-map {error}.") from None
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise ValueError(
            f"--class-map {path} must be a JSON object of names: "
            '{"class of the data": "class of the model"}.'
        )
    return names
