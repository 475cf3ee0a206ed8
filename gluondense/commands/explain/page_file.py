# SPDX-License-Identifier: Apache-2.0
"""Write a page to the file that a flag names."""

from __future__ import annotations

from pathlib import Path

from ...files import write_bytes


def write_html(path: str, page: str) -> None:
    """Write a page; an OSError names the file and not the temporary one beside it."""
    try:
        write_bytes(Path(path), page.encode())
    except OSError as error:
        raise type(error)(
            f"can't write {path} ({error.strerror}): name a file in a folder that exists."
        ) from None
