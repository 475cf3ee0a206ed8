# SPDX-License-Identifier: Apache-2.0
"""Run a notebook of the docs and store its outputs in it; needs the extra `notebooks`.

    python scripts/dev/run_notebook.py NOTEBOOK.ipynb --set 'data_dir = "data/fashion-mnist"'

The statements of --set run after the notebook's cell of parameters and are not stored.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
from pathlib import Path
from typing import Any, Optional

from gluondense.commands.parser import Parser


def main(argv: Optional[list[str]] = None) -> int:
    """Run and rewrite the notebook."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--set", default="", metavar="STATEMENTS", help="other parameters")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        notebook = run(args.notebook, args.set, Path(folder))
    _write(notebook, args.notebook)
    return 0


def run(path: Path, parameters: str, folder: Path, before: str = "") -> Any:
    """Return an executed notebook.

    Parameters
    ----------
    path
        The notebook's file.
    parameters
        Statements to run after the cell that is tagged ``parameters``.
    folder
        Working directory.
    before
        Statements to run before all others.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    new_cell = nbformat.v4.new_code_cell
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    index = notebook.cells.index(tagged[0]) + 1
    notebook.cells.insert(index, new_cell(parameters))
    notebook.cells.insert(0, new_cell(before))
    where = {"metadata": {"path": str(folder)}}
    options = {"timeout": None, "kernel_name": "python3", "coalesce_streams": True}
    NotebookClient(notebook, resources=where, **options).execute()
    del notebook.cells[index + 1], notebook.cells[0]
    return notebook


def sources_sha256(notebook: Any) -> str:
    """Return the SHA-256 of the code, which an executed notebook has in its metadata."""
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256("\0".join(sources).encode()).hexdigest()


def _write(notebook: Any, path: Path) -> None:
    """Write a notebook without counters and times, so that equal outputs give equal files."""
    import nbformat

    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.execution_count = None
            for output in cell.outputs:
                if output.output_type == "execute_result":
                    output.execution_count = None
    notebook.metadata["language_info"] = {"name": "python"}
    notebook.metadata["sources_sha256"] = sources_sha256(notebook)
    nbformat.write(notebook, path)


if __name__ == "__main__":
    sys.exit(main())
