# SPDX-License-Identifier: Apache-2.0
"""Read text and JSON files; each error names the file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from .errors import in_one_line


def read_text(path: str | os.PathLike[str]) -> str:
    """Return the text of a UTF-8 file; a ValueError names the file and the line that is not.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     _ = file.write("grün".encode()), file.flush()
    ...     read_text(file.name)
    'grün'
    """
    content = Path(path).read_bytes()
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{os.fspath(path)} is not UTF-8 (line {line} has the byte 0x{content[error.start]:02x}"
            "); save it as UTF-8"
        ) from None


def parse_json(text: str | bytes, name: str | os.PathLike[str]) -> Any:
    """Parse JSON; ``name`` stands for the file in the ValueError for invalid text.

    Examples
    --------
    >>> parse_json("[1", "a.json")
    Traceback (most recent call last):
    ValueError: a.json is not JSON (Expecting ',' delimiter: line 1 column 3 (char 2))
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # deep nesting exceeds the stack
        raise ValueError(f"{os.fspath(name)} is not JSON ({in_one_line(error)})") from None


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file; a ValueError names the file if it is none."""
    return parse_json(read_text(path), path)
