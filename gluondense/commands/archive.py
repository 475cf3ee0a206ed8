# SPDX-License-Identifier: Apache-2.0
"""Pack an export for a server: NAME.mar, NAME.tar.gz, NAME.zip, or the folder NAME/ for Triton."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Optional

from .output import call
from .parser import Parser


def main(argv: Optional[list[str]] = None) -> int:
    """Pack the export, print the archive's path; return the exit code."""
    parser = Parser(description=__doc__)
    parser.add_argument(
        "export",
        help="an export: its prefix or one of its files; or published weights such as "
        "densenet121.tv_in1k, which are exported first",
    )
    parser.add_argument(
        "archive",
        help="NAME.mar for multi-model-server, NAME.tar.gz for SageMaker's MXNet container, "
        "NAME.zip for DJL; NAME/ for Triton, which takes ONNX exports",
    )
    parser.add_argument(
        "--target",
        help="target of published weights, see `gluondense export`; default: portable, or onnx for "
        "Triton",
    )
    return call(_run, parser.parse_args(argv))


def _run(args: argparse.Namespace) -> None:
    from ..deploy.artifact import is_export
    from ..deploy.serving.archive import archive

    if is_export(args.export) or not _is_published(args.export):
        if args.target is not None:
            raise ValueError(f"--target {args.target} is for published weights, not for exports.")
        path = archive(args.export, args.archive)
    else:
        with tempfile.TemporaryDirectory() as folder:
            path = archive(_export(args, folder), args.archive)
    files = path.rglob("*") if path.is_dir() else [path]
    print(f"{path} ({sum(file.stat().st_size for file in files if file.is_file()):,} bytes)")


def _is_published(name: str) -> bool:
    from ..models.registry import SPECS

    return not Path(name).exists() and name.partition(".")[0].lower() in SPECS


def _export(args: argparse.Namespace, folder: str) -> str:
    """Export published weights to a folder; return the prefix."""
    from ..deploy.exporter import export
    from ..deploy.serving.archive import kind_of
    from ..zoo import open_network

    target = args.target or ("onnx" if kind_of(args.archive)[1].takes_onnx else "portable")
    net = open_network(args.export)
    shape = net.preprocessing.input_shape
    return export(net, Path(folder) / net.model_name, shape, target).prefix
