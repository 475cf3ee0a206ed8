"""Export a trained run's best network as symbol and params files that plain MXNet loads."""

from __future__ import annotations

import sys
from typing import Optional

from gluondense import export
from gluondense.arguments import Parser
from gluondense.deploy import ExportedFiles
from gluondense.training import Checkpoint, load


def main(argv: Optional[list[str]] = None) -> int:
    """Parse, export, print what was written; return the process's exit code."""
    args = _parser().parse_args(argv)
    try:
        checkpoint = load(args.run_folder)
        input_shape = args.input_shape or checkpoint.input_shape
        files = export(
            checkpoint.network(),
            args.out or _default_prefix(checkpoint),
            input_shape,
            target=args.target,
            class_names=checkpoint.class_names,
            mean=checkpoint.mean,
            std=checkpoint.std,
        )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(_summary(checkpoint, files, input_shape))
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
        help="portable (default): any MXNet from 1.4; onednn: faster, for CPUs and MXNet 1.9",
    )
    parser.add_argument(
        "--input-shape",
        type=shape,
        metavar="N,C,H,W",
        help="shape to check the files with; default: the run's",
    )
    return parser


def shape(text: str) -> tuple[int, ...]:
    """Read ``N,C,H,W``, for argparse, which calls it by this name in its messages."""
    return tuple(int(number) for number in text.split(","))


def _default_prefix(checkpoint: Checkpoint) -> str:
    folder = checkpoint.folder
    # Not inside a checkpoint: training replaces the whole folder.
    run = folder.parents[1] if folder.parent.name == "checkpoints" else folder
    return str(run / "export" / checkpoint.model_name)


def _summary(checkpoint: Checkpoint, files: ExportedFiles, input_shape: tuple[int, ...]) -> str:
    lines = [f"{checkpoint.model_name} after epoch {checkpoint.epoch}, checked by loading it back:"]
    lines += [f"  {file} ({file.stat().st_size:,} bytes)" for file in files]
    lines += [
        "Load it in plain MXNet:",
        "  import mxnet as mx",
        f"  net = mx.gluon.SymbolBlock.imports('{files.symbol}', ['data'], '{files.params}')",
        f"  outputs = net(mx.nd.zeros({input_shape}))",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
