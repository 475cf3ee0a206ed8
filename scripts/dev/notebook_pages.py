# SPDX-License-Identifier: Apache-2.0
"""MkDocs hook: a page of the site for each notebook in docs/, with its stored outputs.

The pages exist only on the site. Plugins for notebooks would bring Jupyter and its style.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.structure.files import Files


def on_files(files: Files, config: Any) -> Files:
    """Add the pages and their figures."""
    from mkdocs.structure.files import File

    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        path = PurePosixPath(file.src_uri)
        text, figures = to_markdown(json.loads(file.content_string), path.stem)
        text += f"\n\n[Download this notebook]({path.name})\n"
        files.append(File.generated(config, str(path.with_suffix(".md")), content=text))
        for name, data in figures.items():
            files.append(File.generated(config, str(path.with_name(name)), content=data))
    return files


def to_markdown(notebook: Mapping[str, Any], stem: str) -> tuple[str, dict[str, bytes]]:
    """Return a notebook in Markdown, and the content of its figures by their names."""
    parts: list[str] = []
    figures: dict[str, bytes] = {}
    for cell in notebook["cells"]:
        source = _text(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {"text/plain": output.get("text", "")})
            if "image/png" in data:
                name = f"{stem}-{len(figures) + 1}.png"
                figures[name] = base64.b64decode(data["image/png"])
                parts.append(f"![Figure]({name})")
            else:
                parts.append(f"```text\n{_text(data['text/plain']).rstrip()}\n```")
    return "\n\n".join(parts), figures


def _text(lines: str | list[str]) -> str:
    return lines if isinstance(lines, str) else "".join(lines)
