"""Convert weights between MXNet and PyTorch, and between the names that libraries give them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Optional

import gluondense

from ..weights import LAYOUTS, save_weights
from .arguments import Parser


def main(argv: Optional[list[str]] = None) -> int:
    """Parse, convert, print what was read and written; return the process's exit code."""
    args = _parser().parse_args(argv)
    try:
        net = gluondense.get_model(args.model, **dict(args.set))
        report = gluondense.load_weights(net, args.source, layout=args.source_layout)
        if report.fresh or report.adapted:
            raise ValueError(
                f"{args.source} is of a {args.model} with other classes or in_channels: say so, "
                "such as --set classes=10."
            )
        _refuse_itself(args.source, args.out)
        row = save_weights(net, args.out, args.layout)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"read {report}")
    if net.preprocessing is not None and args.out.suffix == ".params":
        print(f".params cannot say it: images take {net.preprocessing}")
    print(f"wrote {args.out} ({args.out.stat().st_size:,} bytes, {row.name} layout: {row.writer})")
    return 0


def _refuse_itself(source: Path, out: Path) -> None:
    if out.exists() and out.samefile(source):
        raise ValueError(f"{out} is the file to read: write to another one.")


def _parser() -> Parser:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("source", type=Path, metavar="IN", help=".params, .safetensors, .pth or .pt")
    add("out", type=Path, metavar="OUT", help=".params (MXNet) or .safetensors (PyTorch)")
    add("--model", required=True, help="name from gluondense.list_models()")
    parser.add_fields()
    add(
        "--layout",
        choices=LAYOUTS,
        metavar="NAME",
        help=f"names to write; default: by the suffix of OUT. One of {', '.join(LAYOUTS)}",
    )
    add("--source-layout", choices=LAYOUTS, metavar="NAME", help="names of IN; default: found out")
    return parser


if __name__ == "__main__":
    sys.exit(main())
