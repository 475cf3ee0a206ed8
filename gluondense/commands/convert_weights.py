# SPDX-License-Identifier: Apache-2.0
"""Convert weights between MXNet and PyTorch, and between libraries' parameter names."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Optional

from ..weights.naming.schemes import NAMING_SCHEMES
from .arguments import Parser, call


def main(argv: Optional[list[str]] = None) -> int:
    """Convert a weights file; return the exit code."""
    return call(_run, _parser().parse_args(argv))


def _run(args: argparse.Namespace) -> None:
    from ..weights.load import load_weights
    from ..weights.save import save_weights
    from ..zoo import get_model

    net = get_model(args.model, **dict(args.set))
    report = load_weights(net, args.source, naming=args.source_naming)
    if report.fresh or report.adapted:
        raise ValueError(
            f"{args.source} is for {args.model} with other classes or in_channels: set them, "
            "such as --set classes=10."
        )
    if args.out.exists() and args.out.samefile(args.source):
        raise ValueError(f"{args.out} is the input file: write to another one.")
    scheme = save_weights(net, args.out, args.naming)
    print(f"read {report}")
    if net.preprocessing is not None and args.out.suffix == ".params":
        print(f".params does not store the preprocessing: {net.preprocessing}")
    size = args.out.stat().st_size
    print(f"wrote {args.out} ({size:,} bytes, {scheme.name} names: {scheme.writer})")


def _parser() -> Parser:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("source", type=Path, metavar="IN", help=".params, .safetensors, .pth or .pt")
    add("out", type=Path, metavar="OUT", help=".params (MXNet) or .safetensors (PyTorch)")
    add("--model", required=True, help="a name from `gluondense models`")
    parser.add_fields()
    out = f"naming scheme of OUT, default by its suffix: {', '.join(NAMING_SCHEMES)}"
    # --layout and --source-layout are the names of earlier versions.
    add("--naming", "--layout", choices=NAMING_SCHEMES, metavar="NAME", help=out)
    source = "naming scheme of IN; default: detected"
    add("--source-naming", "--source-layout", choices=NAMING_SCHEMES, metavar="NAME", help=source)
    return parser
