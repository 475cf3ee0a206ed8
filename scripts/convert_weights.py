"""Convert weights between MXNet and PyTorch, and between the names that libraries give them."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Optional

import gluondense
from gluondense.weights import LAYOUTS, save_weights


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
    print(f"wrote {args.out} ({args.out.stat().st_size:,} bytes, {row.name} layout: {row.writer})")
    return 0


def _refuse_itself(source: Path, out: Path) -> None:
    if out.exists() and out.samefile(source):
        raise ValueError(f"{out} is the file to read: write to another one.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.error = lambda message: parser.exit(2, f"error: {message} (see --help)\n")  # type: ignore
    add = parser.add_argument
    add("source", type=Path, metavar="IN", help=".params, .safetensors, .pth or .pt")
    add("out", type=Path, metavar="OUT", help=".params (MXNet) or .safetensors (PyTorch)")
    add("--model", required=True, help="name from gluondense.list_models()")
    add(
        "--set",
        type=_field,
        action="append",
        default=[],
        metavar="FIELD=JSON",
        help="a field of the model's spec, such as classes=10; may be repeated",
    )
    add(
        "--layout",
        choices=LAYOUTS,
        metavar="NAME",
        help=f"names to write; default: by the suffix of OUT. One of {', '.join(LAYOUTS)}",
    )
    add("--source-layout", choices=LAYOUTS, metavar="NAME", help="names of IN; default: found out")
    return parser


def _field(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not FIELD=JSON, such as classes=10")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value  # a word needs no quotes: fusion=both


if __name__ == "__main__":
    sys.exit(main())
