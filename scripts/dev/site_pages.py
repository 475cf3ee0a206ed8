# SPDX-License-Identifier: Apache-2.0
"""MkDocs hook: figures as a part of their page, and pages of files outside of docs/.

In the sources a figure is an image, which GitHub shows too. On the site it has the page's colors.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.structure.files import Files

# A line of HTML with an image.
FIGURE = re.compile(r'^<img src="([\w./-]+\.svg)" alt="[^"]*">$', re.MULTILINE)
OUTSIDE = {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md"}


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of files outside of docs/."""
    from mkdocs.structure.files import File

    root = Path(config.docs_dir).parent
    for page, source in OUTSIDE.items():
        text = (root / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Replace the figures of a page by their SVG."""
    return inlined(markdown, Path(config.docs_dir) / PurePosixPath(page.file.src_uri).parent)


def inlined(markdown: str, folder: Path) -> str:
    """Replace figures, whose paths are relative to a folder, by their SVG."""
    return FIGURE.sub(lambda found: (folder / found[1]).read_text("utf-8").rstrip(), markdown)
