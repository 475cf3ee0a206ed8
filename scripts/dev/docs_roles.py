"""The docstrings' Sphinx roles as links of the docs site: a Griffe extension for mkdocs.yml."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

# :func:`gluondense.export`, :class:`~gluondense.Thing`, :meth:`stages` …
ROLE = re.compile(r":(?:class|data|exc|func|meth|mod):`~?([\w.]+)`")

# What a Gluon block takes and gives, as MXNet's own docstrings have it.
SHAPES = re.compile(r"^(Inputs(?: / Outputs)?|Outputs)\n((?: {4}.*\n?)+)", re.MULTILINE)
SECTION = re.compile(r"^\w+\n-{3,}$", re.MULTILINE)
# Where Griffe finds what a package lends.
HIDDEN = {
    "gluondense.deploy.archive": "gluondense.deploy.serving.archive.archive",
    "gluondense.export": "gluondense.deploy.exporter.export",
}
LINK = re.compile(r"`([^`<]+?)\s*<(\S+?)>`__?")


def as_markdown(text: str) -> str:
    """Write roles as code, those of full names as links, and links as Markdown's.

    Examples
    --------
    >>> as_markdown("see :func:`gluondense.export`, :meth:`stages` and `a page <https://x.org>`_")
    'see [`gluondense.export`][gluondense.export], `stages` and [a page](https://x.org)'
    """

    def role(found: re.Match[str]) -> str:
        name = found[1]
        return (
            f"[`{name}`][{HIDDEN.get(name, name)}]"
            if name.startswith("gluondense.")
            else f"`{name}`"
        )

    return LINK.sub(r"[\1](\2)", ROLE.sub(role, text))


def lift_shapes(text: str) -> str:
    r"""Put inputs and outputs in front of the sections, where they are text.

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
    """Changes each docstring when Griffe has read it."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Change the docstring of a module, class, function or attribute."""
        if obj.docstring:
            obj.docstring.value = as_markdown(lift_shapes(obj.docstring.value))
