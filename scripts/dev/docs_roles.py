# SPDX-License-Identifier: Apache-2.0
"""Griffe extension for mkdocs.yml that turns Sphinx roles in docstrings into links."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

# :func:`gluondense.export`, :class:`~gluondense.Thing`, :meth:`stages` …
ROLE = re.compile(r":(?:class|data|exc|func|meth|mod):`~?([\w.]+)`")

# Inputs and outputs of a Gluon block, in the format of MXNet's docstrings.
SHAPES = re.compile(r"^(Inputs(?: / Outputs)?|Outputs)\n((?: {4}.*\n?)+)", re.MULTILINE)
SECTION = re.compile(r"^\w+\n-{3,}$", re.MULTILINE)
# Public name -> the object that Griffe finds, for packages that export a name lazily.
HIDDEN = {
    "gluondense.export": "gluondense.deploy.export",
    "gluondense.fit": "gluondense.training.fit",
    "gluondense.load_exported": "gluondense.deploy.load_exported",
    "gluondense.load_weights": "gluondense.weights.load_weights",
}
LINK = re.compile(r"`([^`<]+?)\s*<(\S+?)>`__?")


def as_markdown(text: str) -> str:
    """Convert roles of full names to links, other roles to code, and links to Markdown.

    Examples
    --------
    >>> as_markdown("see :func:`gluondense.fit`, :meth:`stages` and `a page <https://x.org>`_")
    'see [`gluondense.fit`][gluondense.training.fit], `stages` and [a page](https://x.org)'
    """

    def role(found: re.Match[str]) -> str:
        name = found[1]
        link = f"[{HIDDEN.get(name, name)}]" if name.startswith("gluondense.") else ""
        return f"[`{name}`]{link}" if link else f"`{name}`"

    return LINK.sub(r"[\1](\2)", ROLE.sub(role, text))


def lift_shapes(text: str) -> str:
    r"""Move inputs and outputs in front of the numpydoc sections, as text.

    Examples
    --------
    >>> lift_shapes("A block.\n\nInputs\n    (N, C)\n").splitlines()
    ['A block.', '', '**Inputs**: (N, C)', '']
    """
    shapes = [f"**{name}**: {' '.join(lines.split())}" for name, lines in SHAPES.findall(text)]
    if not shapes:
        return text
    rest = SHAPES.sub("", text)
    section = SECTION.search(rest)
    place = section.start() if section else len(rest)
    return f"{rest[:place].rstrip()}\n\n" + "\n\n".join([*shapes, rest[place:]])


class SphinxRoles(Extension):
    """Convert each docstring after Griffe has read it."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Convert the docstring of a module, class, function or attribute."""
        if obj.docstring:
            obj.docstring.value = as_markdown(lift_shapes(obj.docstring.value))
