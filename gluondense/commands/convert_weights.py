# SPDX-License-Identifier: Apache-2.0
"""Convert weights between MXNet and PyTorch, and between libraries' parameter names."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Optional

from ..text import read_json
from ..weights.naming.schemes import NAMING_SCHEMES
from .arguments import add_preprocessing, preprocessing_fields
from .output import call
from .parser import Parser


def main(argv: Optional[list[str]] = None) -> int:
    """Convert a weights file; return the exit code."""
    return call(_run, _parser().parse_args(argv))


def _run(args: argparse.Namespace) -> None:
    from ..data.overrides import adjust
    from ..weights.load import load_weights
    from ..weights.save import save_weights
    from ..zoo import get_model

    net = get_model(args.model, **dict(args.set))
    report = load_weights(net, args.source, naming=args.source_naming, allow_nan=args.allow_nan)
    if report.fresh or report.adapted:
        raise ValueError(
            f"{args.source} is for {args.model} with other classes or in_channels: set them, "
            "such as --set classes=10."
        )
    fields = {
        name: value for name, value in preprocessing_fields(args).items() if value is not None
    }
    if fields and net.preprocessing is None and "input_size" not in fields:
        raise ValueError(f"the preprocessing of {args.source} is unknown: give --input-size too.")
    net.preprocessing = adjust(net.preprocessing, **fields)
    if args.out.exists() and args.out.samefile(args.source):
        raise ValueError(f"{args.out} is the input file: write to another one.")
    scheme = save_weights(net, args.out, args.naming)
    print(f"read {report}")
    known = net.preprocessing.describe() if net.preprocessing is not None else "unknown"
    stored = ", which .params does not store" if args.out.suffix == ".params" else ""
    print(f"preprocessing: {known}{stored}")
    size = args.out.stat().st_size
    print(f"wrote {args.out} ({size:,} bytes, {scheme.name} names: {scheme.writer})")


def _parser() -> Parser:
    # The messages of load_weights; those about the names of OUT don't name their argument.
    parser = Parser({"naming": "--source-naming"}, description=__doc__)
    add = parser.add_argument
    add("source", type=Path, metavar="IN", help=".params, .safetensors, .pth or .pt")
    add("out", type=Path, metavar="OUT", help=".params (MXNet) or .safetensors (PyTorch)")
    add("--model", required=True, help="a name from `gluondense models`")
    parser.add_fields()
    out = f"naming scheme of OUT, default by its suffix: {', '.join(NAMING_SCHEMES)}"
    # --layout and --source-layout are the names of earlier versions.
    add("--naming", "--layout", choices=NAMING_SCHEMES, metavar="NAME", help=out)
    source = "naming scheme of IN, or a JSON object of patterns and names; default: detected"
    names = ("--source-naming", "--source-layout")
    add(*names, type=source_naming, metavar="NAME|FILE.json", help=source)
    add("--allow-nan", action="store_true", help="convert NaN and infinite values too")
    add_preprocessing(parser)
    return parser


def source_naming(text: str) -> Any:
    """Return a known name, or the mapping in a JSON file, see ``load_weights``."""
    if not text.endswith(".json"):
        if text not in NAMING_SCHEMES:
            known = ", ".join(NAMING_SCHEMES)
            raise argparse.ArgumentTypeError(f"{text!r} is no FILE.json, and none of {known}")
        return text
    try:
        naming = read_json(text)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"can't read {text} ({error.strerror})") from None
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not isinstance(naming, dict):
        raise argparse.ArgumentTypeError(f'{text} must be a JSON object: {{"output": "fc", …}}')
    return {ours: tuple(t) if isinstance(t, list) else t for ours, t in naming.items()}
