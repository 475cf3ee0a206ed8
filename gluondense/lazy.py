# SPDX-License-Identifier: Apache-2.0
"""Lazy names of packages (PEP 562): a package imports a module when one of its names is read."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from typing import Any, Callable


def attach(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` for a package's ``__init__``.

    The lazy names are those that ``__init__.py`` imports for type checkers, so each is listed once:
    ``from .module import name`` under ``if TYPE_CHECKING:``. Submodules are attributes too.

    Parameters
    ----------
    package
        ``__name__`` of the package.

    Examples
    --------
    >>> __getattr__, __dir__ = attach("gluondense.models")
    >>> __getattr__("get_spec").__module__
    'gluondense.models.registry'
    """
    modules: dict[str, str] = {}

    def find(name: str) -> Any:
        if not modules:
            modules.update(lazy_names(package))
        module = sys.modules[package]
        if name in modules:
            value = getattr(importlib.import_module(modules[name], package), name)
            setattr(module, name, value)  # the next access does not come here
            return value
        if not name.startswith("_") and importlib.util.find_spec(f"{package}.{name}"):
            return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def names() -> list[str]:
        module = sys.modules[package]
        return sorted({*vars(module), *getattr(module, "__all__", ())})

    return find, names


def lazy_names(package: str) -> dict[str, str]:
    """Return the relative module of each name imported under ``if TYPE_CHECKING:``."""
    spec = sys.modules[package].__spec__
    source = spec.loader.get_source(package)  # type: ignore[union-attr]
    return {
        alias.asname or alias.name: "." * node.level + (node.module or "")
        for block in ast.parse(source).body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
