# SPDX-License-Identifier: Apache-2.0
"""Export the best network of a run, or published weights, to files for MXNet or ONNX runtimes."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from .arguments import add_preprocessing, add_weights_file, preprocessing_fields
from .export_summary import accuracy_line, file_lines, quantization_lines
from .output import call
from .parser import Parser

if TYPE_CHECKING:
    import numpy as np

    from ..data.detection.source import DetectionSource
    from ..data.files.sources import Source
    from ..data.preprocessing import Preprocessing
    from ..deploy.artifact_files import Files
    from ..deploy.quantization.calibration import Calibration
    from ..evaluation.model import EvaluatedModel
    from ..training.data import Data


_TARGETS = (
    "portable (default): any MXNet from 1.4; onednn: faster, for CPUs and MXNet 1.9; native: "
    "faster still, compiled here; native_bf16: the same, in bfloat16 where the CPU has it; int8, "
    "native_int8: in int8, faster, less exact; onnx, onnx_int8: one file for ONNX Runtime, "
    "OpenVINO, …"
)


def main(argv: Optional[list[str]] = None) -> int:
    """Export, print the files and how to load them; return the exit code.

    It is 1 if the outputs of the exported graph differ from those of the network.
    """
    parser = Parser(names={"image_dir": "--calibrate"}, description=__doc__)
    add = parser.add_argument
    add(
        "source",
        metavar="run_folder",
        help="a run's folder, or one of its checkpoints; or weights such as densenet121.tv_in1k, "
        "or a weights file",
    )
    add("--out", metavar="PREFIX", help="prefix of the files; default: RUN_FOLDER/export/MODEL")
    add("--target", default="portable", help=_TARGETS)
    add(
        "--input-shape",
        type=shape,
        metavar="N,C,H,W",
        help="shape of the verification; default: the network's",
    )
    add("--preprocess", action="store_true", help="the graph normalizes uint8 pixels (N, H, W, C)")
    text = "logits (default), probabilities or features; a detector's is boxes"
    add("--output", default="logits", help=text)
    add("--params-dtype", default="float32", help="float32, or float16 (half the size, portable)")
    add_weights_file(parser)
    add = parser.add_argument_group("calibration of int8 targets").add_argument
    add(
        "--calibrate",
        metavar="FOLDER|FILE.rec",
        help="default: training images of the run, or of the data of published weights",
    )
    add("--data-dir", metavar="FOLDER", help="folder of the data of published weights")
    add("--calibration-method", dest="method", help="minmax (default), percentile or entropy")
    add(
        "--calibration-images",
        dest="count",
        type=int,
        metavar="N",
        help="largest number of calibration images (default: 256)",
    )
    add(
        "--max-changed",
        type=float,
        metavar="SHARE",
        help="largest share of the calibration images whose predicted class int8 may change "
        "(default: 0.01); sensitive layers stay in float32 until this holds",
    )
    add_preprocessing(parser, "input_size")
    return call(_run, parser.parse_args(argv))


def shape(text: str) -> tuple[int, ...]:
    """Parse ``N,C,H,W``; argparse shows the name of this function in its messages."""
    return tuple(int(number) for number in text.split(","))


def _run(args: argparse.Namespace) -> int:
    from ..deploy.exporter import export

    try:
        model = _open(args)
        preprocessing = model.known_preprocessing()
        calibration = _calibration(args, model, preprocessing)
        files = export(
            model.net,
            args.out or _default_prefix(args, model),
            args.input_shape or preprocessing.input_shape,
            target=args.target,
            class_names=model.class_names,
            preprocessing=preprocessing,
            calibration=calibration,
            preprocess=args.preprocess,
            output=args.output,
            params_dtype=args.params_dtype,
            allow_nan=args.allow_nan,
        )
    except RuntimeError as error:
        if type(error) is not RuntimeError:  # an error of MXNet
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\n".join(file_lines(_title(args, model), files)))
    if calibration is not None:
        print("\n".join(_quantization_summary(args, model, files)))
    return 0


def _open(args: argparse.Namespace) -> EvaluatedModel:
    """Open a run or weights, with the preprocessing that the flags change; it must be known."""
    from ..deploy.artifact import is_export
    from ..evaluation.model import open_model
    from ..training.devices import find_devices

    folder = Path(args.source).is_dir()
    if not folder and args.network is None and is_export(args.source):
        raise ValueError(f"{args.source} is an export: export the run or the weights again.")
    options = {"fields": dict(args.set), "allow_nan": args.allow_nan}
    model = open_model(args.source, find_devices(()), args.network, **options)
    fields = preprocessing_fields(args)
    if args.input_shape:
        fields["input_size"] = args.input_shape[2:]
    given = None not in (fields["mean"], fields["std"], fields["input_size"])
    if model.preprocessing is None and not given:
        raise ValueError(
            f"the preprocessing of {args.source} is unknown: give it with --mean, --std (a number "
            "for each channel, of pixels in [0, 1]) and --input-shape."
        )
    return model.adjusted(**fields)


def _calibration(
    args: argparse.Namespace, model: EvaluatedModel, preprocessing: Preprocessing
) -> Optional[Calibration]:
    from ..deploy.quantization.calibration import Calibration
    from ..deploy.targets import get_target

    if not get_target(args.target).needs_calibration:
        if args.calibrate:
            raise ValueError(f"--target {args.target} is not calibrated: leave --calibrate out.")
        return None
    names = ("method", "count", "max_changed")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    count = given.get("count", Calibration.count)
    images = args.calibrate or _training_images(args, model, preprocessing, count)
    return Calibration(images, **given)


def _training_images(
    args: argparse.Namespace, model: EvaluatedModel, preprocessing: Preprocessing, count: int
) -> np.ndarray:
    """Return normalized training images (N, C, H, W) of the run, or of published weights' data."""
    from ..data.datasets.imagenet import ImageFiles
    from ..data.detection.dataset import DetectionFiles
    from ..data.files.image_set import evenly_spaced
    from ..data.transforms.batch import resize

    try:
        data = _open_data(args, model, training=True)
    except (ValueError, OSError) as error:
        whose = "the run's own images" if model.config else "images"
        raise type(error)(
            f"{whose} can't be had for the calibration ({error}): "
            "name a folder of images with --calibrate."
        ) from None
    indices = evenly_spaced(data.train_count, count)
    if not isinstance(data, (ImageFiles, DetectionFiles)):
        pixels = resize(data.train_images[indices], preprocessing.size)
    else:
        assert data.train is not None  # opened for training
        pixels = _readable_images(data.train, indices, preprocessing)
    return preprocessing.normalize(pixels)


def _readable_images(
    source: Source | DetectionSource, indices: list[int], preprocessing: Preprocessing
) -> np.ndarray:
    import numpy as np

    from ..data.datasets.imagenet import decode_image

    decoded = [decode_image(source, index, preprocessing) for index in indices]
    readable = [pixels for pixels in decoded if pixels is not None]
    unreadable = f"{len(decoded) - len(readable)} of {len(decoded)} training images can't be read"
    if not readable:
        raise ValueError(f"{unreadable}: name a folder of images with --calibrate.")
    if len(readable) < len(decoded):
        print(f"warning: {unreadable}; the calibration leaves them out", file=sys.stderr)
    return np.stack(readable)


def _open_data(args: argparse.Namespace, model: EvaluatedModel, training: bool = False) -> Data:
    """Open the images of the run, or those that published weights were trained on."""
    from ..data.datasets.registry import IN_MEMORY, load_dataset
    from ..training.run_data import open_run_data, with_current_paths

    if model.config is not None:
        config = replace(with_current_paths(args.source, model.config), download=False)
        return open_run_data(args.source, config, training=training)
    if model.weights and model.dataset in IN_MEMORY:
        return load_dataset(model.dataset, args.data_dir, download=False)
    raise ValueError(f"the data of {args.source} are unknown")


def _default_prefix(args: argparse.Namespace, model: EvaluatedModel) -> str:
    if model.config is None:
        raise ValueError("give --out PREFIX: only a run has a folder for its exports.")
    folder = Path(args.source)
    # Not inside a checkpoint: training replaces the whole folder.
    run = folder.parents[1] if folder.parent.name == "checkpoints" else folder
    return str(run / "export" / model.model)


def _title(args: argparse.Namespace, model: EvaluatedModel) -> str:
    from ..training.checkpoint.read import load

    if model.config is not None:
        return f"{model.model} after epoch {load(args.source).epoch}"
    return model.weights or f"{model.model} with the weights of {args.source}"


def _quantization_summary(
    args: argparse.Namespace, model: EvaluatedModel, files: Files
) -> list[str]:
    """Report the quantization error, and the accuracy before and after on the test set."""
    from ..deploy.artifact import load_exported
    from ..training.devices import find_devices

    block = load_exported(files.prefix, find_devices(())[0])
    lines = quantization_lines(block.metadata)
    try:
        return [*lines, accuracy_line(model, block, _open_data(args, model))]
    except (ValueError, OSError) as error:
        return [*lines, f"No accuracy, as the test set can't be used: {error}"]
