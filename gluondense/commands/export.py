"""Export a trained run's best network as symbol and params files that plain MXNet loads."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import numpy as np

from .. import export, load_exported
from ..data.datasets.imagenet import ImageFiles, decode_images
from ..data.files.image_set import evenly_spaced
from ..data.transforms.batch import normalize, resize
from ..deploy import Calibration
from ..deploy.artifact import read_metadata
from ..deploy.artifact_files import Files, OnnxFiles
from ..deploy.pre_post import OUTPUTS, PARAMS_DTYPES
from ..deploy.quantization.metrics import QuantizationMetrics
from ..deploy.targets import get_target
from ..evaluation import Subject, evaluate_subject, open_subject
from ..graph.ranges import METHODS
from ..training import Checkpoint, TrainConfig, load
from ..training.data import Data, open_data
from ..training.devices import find_devices
from .arguments import Parser


def main(argv: Optional[list[str]] = None) -> int:
    """Parse, export, print what was written; return the process's exit code."""
    args = _parser().parse_args(argv)
    try:
        checkpoint = load(args.run_folder)
        input_shape = args.input_shape or checkpoint.input_shape
        calibration = None
        if get_target(args.target).needs_calibration:
            images = args.calibrate or _training_images(checkpoint, input_shape, args.images)
            calibration = Calibration(
                images, method=args.method, count=args.images, max_changed=args.max_changed
            )
        elif args.calibrate:
            raise ValueError(f"--target {args.target} is not calibrated: leave --calibrate out.")
        net = checkpoint.network()
        files = export(
            net,
            args.out or _default_prefix(checkpoint),
            input_shape,
            target=args.target,
            class_names=checkpoint.class_names,
            mean=checkpoint.mean,
            std=checkpoint.std,
            calibration=calibration,
            preprocess=args.preprocess,
            output=args.output,
            params_dtype=args.params_dtype,
        )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(_summary(checkpoint, files))
    if calibration is not None:
        print(_harm(args.run_folder, files, input_shape))
    return 0


def _parser() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("run_folder", help="a run's folder, or one of its checkpoints")
    parser.add_argument(
        "--out",
        metavar="PREFIX",
        help="what the files begin with; default: RUN_FOLDER/export/MODEL",
    )
    parser.add_argument(
        "--target",
        default="portable",
        help="portable (default): any MXNet from 1.4; onednn: faster, for CPUs and MXNet 1.9; "
        "native: faster still, compiled here; native_bf16: the same, in bfloat16 where the CPU "
        "has it; int8, native_int8: in 8 bits, faster, less exact; "
        "onnx, onnx_int8: one file for ONNX Runtime, OpenVINO, …",
    )
    parser.add_argument(
        "--input-shape",
        type=shape,
        metavar="N,C,H,W",
        help="shape to check the files with; default: the run's",
    )
    parser.add_argument(
        "--preprocess",
        action="store_true",
        help="the graph takes pixels (N, H, W, C), uint8, and normalizes them itself",
    )
    parser.add_argument(
        "--output",
        choices=OUTPUTS,
        default="logits",
        help="what the graph gives (default: %(default)s)",
    )
    parser.add_argument(
        "--params-dtype",
        choices=PARAMS_DTYPES,
        default="float32",
        help="float16: half of the bytes, for --target portable (default: %(default)s)",
    )
    parser.add_argument(
        "--calibrate",
        type=Path,
        metavar="FOLDER|FILE.rec",
        help="pictures for a target of 8 bits; default: the run's own training images",
    )
    parser.add_argument(
        "--calibration-method", dest="method", choices=METHODS, default=Calibration.method
    )
    parser.add_argument(
        "--calibration-images",
        dest="images",
        type=int,
        default=Calibration.count,
        metavar="N",
        help="how many of them at most (default: %(default)s)",
    )
    parser.add_argument(
        "--max-changed",
        type=float,
        default=Calibration.max_changed,
        metavar="SHARE",
        help="of them, whose likeliest class 8 bits may change (default: %(default)s)",
    )
    return parser


def shape(text: str) -> tuple[int, ...]:
    """Read ``N,C,H,W``, for argparse, which calls it by this name in its messages."""
    return tuple(int(number) for number in text.split(","))


def _training_images(checkpoint: Checkpoint, shape: tuple[int, ...], count: int) -> np.ndarray:
    try:
        data = open_data(replace(TrainConfig.from_dict(checkpoint.config), download=False))
    except (ValueError, OSError) as error:
        raise type(error)(
            f"the run's own images can't be had for the calibration ({error}): "
            "name a folder of pictures with --calibrate."
        ) from None
    places, (height, width) = evenly_spaced(data.train_count, count), shape[2:]
    if isinstance(data, ImageFiles):
        chosen = decode_images(data.train, places, (height, width))
    else:
        chosen = resize(data.train_images[places], (height, width))
    return normalize(chosen, checkpoint.mean, checkpoint.std)


def _default_prefix(checkpoint: Checkpoint) -> str:
    folder = checkpoint.folder
    # Not inside a checkpoint: training replaces the whole folder.
    run = folder.parents[1] if folder.parent.name == "checkpoints" else folder
    return str(run / "export" / checkpoint.model_name)


def _summary(checkpoint: Checkpoint, files: Files) -> str:
    about = read_metadata(files.metadata)
    batch, *maps = about.input_shape
    shape = (batch, *maps[1:], maps[0]) if about.preprocess else about.input_shape
    kind, dtype = ("uint8", ", dtype='uint8'") if about.preprocess else ("float32", "")
    native = about.target.startswith("native")
    lines = [f"{checkpoint.model_name} after epoch {checkpoint.epoch}, checked by loading it back:"]
    written = [*files, files.library] if native else files
    lines += [f"  {file} ({file.stat().st_size:,} bytes)" for file in written]
    if isinstance(files, OnnxFiles):
        lines += [
            "Load it in ONNX Runtime:",
            "  import numpy as np, onnxruntime",
            f"  session = onnxruntime.InferenceSession('{files.model}')",
            f"  outputs = session.run(None, {{'data': np.zeros({shape}, '{kind}')}})",
        ]
    else:
        lines += [
            "Load it in plain MXNet:",
            "  import mxnet as mx",
            *([f"  mx.library.load('{files.library.resolve()}')"] if native else []),
            f"  net = mx.gluon.SymbolBlock.imports('{files.symbol}', ['data'], '{files.params}')",
            f"  outputs = net(mx.nd.zeros({shape}{dtype}))",
        ]
    return "\n".join(lines)


def _harm(run_folder: str, files: Files, shape: tuple[int, ...]) -> str:
    """Say what the target's 8 bits did to the network."""
    block = load_exported(files.prefix, find_devices(())[0])
    about = block.metadata
    harm = about.quantization
    lines = [
        f"Calibrated with {harm['images']} images ({harm['method']}); "
        f"{len(harm['kept'])} of {harm['layers']} layers stay in float; "
        f"{QuantizationMetrics(harm['error'], harm['agreement'])}."
    ]
    subject = open_subject(run_folder, find_devices(()))
    try:
        data = open_data(replace(subject.config, download=False), training=False)
    except (ValueError, OSError) as error:
        return "\n".join([*lines, f"No accuracy, as there is no test set: {error}"])
    subject = replace(subject, size=shape[2:])
    before, after = (
        _accuracy(one, data) for one in (subject, _of_export(subject, block, about.preprocess))
    )
    lines.append(
        f"Accuracy over all {data.test_count:,} test images of {data.info.name}: "
        f"{before:.2%} in float, {after:.2%} in 8 bits ({100 * (after - before):+.2f} points)."
    )
    return "\n".join(lines)


def _accuracy(subject: Subject, data: Data) -> float:
    batch_size = subject.config.batch_size
    answers = evaluate_subject(subject, data, find_devices(()), batch_size=batch_size).answers
    return answers.accuracy


def _of_export(subject: Subject, block: Any, preprocess: bool) -> Subject:
    """The same for what was exported of it."""
    from mxnet.gluon import nn  # behind gluondense, which sets MXNet's threads

    if not preprocess:
        return replace(subject, net=block)
    net = nn.Sequential()
    net.add(nn.Lambda(lambda x: x.round().astype("uint8").transpose((0, 2, 3, 1))), block)
    channels = len(subject.mean)  # pixels as they are
    return replace(subject, net=net, mean=(0.0,) * channels, std=(1 / 255,) * channels)


if __name__ == "__main__":
    sys.exit(main())
