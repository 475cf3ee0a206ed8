# SPDX-License-Identifier: Apache-2.0
"""Bad annotations: what is wrong with them, and what happens to them."""

from __future__ import annotations

import sys
from collections import Counter
from typing import NamedTuple

from ...errors import check_choice, in_one_line

BAD = ("skip", "clip", "error")  # what to do with a bad annotation
# The kinds of bad annotations, as the summary counts them.
KINDS = {
    "annotation": "unreadable annotations",
    "image": "missing images",
    "class": "boxes of an unknown class",
    "inverted": "inverted boxes",
    "empty": "empty boxes",
    "outside": "boxes outside of their image",
    "duplicate": "duplicates",
}
_SHOWN = 20  # bad annotations that are printed; the others are counted


class Problem(NamedTuple):
    """A bad annotation.

    Attributes
    ----------
    kind
        A key of ``KINDS``.
    message
        The file, the box, what is wrong, and what happened to it, in one line.
    """

    kind: str
    message: str


class Problems:
    """Collects bad annotations, or stops at the first.

    Parameters
    ----------
    bad
        ``"skip"``: leave out the box, or the image if it has no readable file or annotation.
        ``"clip"``: as ``"skip"``, but cut boxes off at the edges of their image. ``"error"``: raise
        a ValueError at the first.

    Attributes
    ----------
    found
        All bad annotations so far.

    Examples
    --------
    >>> problems = Problems("error")
    >>> problems.add("empty", "a.xml object 1 (cat) has no area", "it is left out")
    Traceback (most recent call last):
    ValueError: a.xml object 1 (cat) has no area; correct it, or leave such boxes out: `bad` skip
    """

    def __init__(self, bad: str = "skip") -> None:
        check_choice("bad", bad, BAD)
        self.bad = bad
        self.found: list[Problem] = []

    def add(self, kind: str, message: str, action: str) -> None:
        """Add a bad annotation and what the caller does with it."""
        message = in_one_line(message, 400)
        if self.bad == "error":
            what = "images" if kind in ("annotation", "image") else "boxes"
            raise ValueError(f"{message}; correct it, or leave such {what} out: `bad` skip")
        self.found.append(Problem(kind, f"{message}; {action}"))

    def print(self) -> None:
        """Print the first bad annotations and a summary to stderr."""
        for problem in self.found[:_SHOWN]:
            print(f"warning: {problem.message}", file=sys.stderr)
        if self.found:
            print(f"warning: bad annotations: {self.summary()}", file=sys.stderr)

    def summary(self) -> str:
        """Return the number of bad annotations of each kind in words, "" if there are none."""
        counts = Counter(problem.kind for problem in self.found)
        return ", ".join(f"{words} {counts[kind]}" for kind, words in KINDS.items() if counts[kind])
