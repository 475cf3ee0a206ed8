# SPDX-License-Identifier: Apache-2.0
"""Weights that a run starts from, before they are loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from ...data.preprocessing import Preprocessing
from ...files import sha256
from ..configuration.sections import ModelConfig


@dataclass(frozen=True)
class InitialWeights:
    """Weights that a run starts from.

    Parameters
    ----------
    name, path
        The name, without folders of this machine, and the file.
    preprocessing, class_names
        The preprocessing that the weights expect, and the names of their outputs; None if unknown.
    model
        The network of a run, with the fields that differ from its row; else None.
    """

    name: str
    path: Path
    preprocessing: Optional[Preprocessing] = None
    class_names: Optional[tuple[str, ...]] = None
    model: Optional[ModelConfig] = None

    def facts(self) -> dict[str, Any]:
        """Return what a checkpoint says of them: name, checksum and preprocessing in words."""
        known = self.preprocessing
        return {
            "name": self.name,
            "sha256": sha256(self.path),
            "preprocessing": known.describe() if known is not None else "unknown",
        }
