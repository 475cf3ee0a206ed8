# SPDX-License-Identifier: Apache-2.0
"""Weights that a run starts from, before they are loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ...data.preprocessing import Preprocessing
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
