# SPDX-License-Identifier: Apache-2.0
"""Load and save weights: file formats, naming schemes, and the catalog of published weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import attach

if TYPE_CHECKING:
    from ..data.preprocessing import Preprocessing
    from .catalog import WEIGHTS, Weights, fetch_weights, find_weights
    from .formats.open import WeightsFile, open_weights
    from .load import LoadReport, load_weights
    from .naming.scheme import NamingScheme
    from .naming.schemes import NAMING_SCHEMES
    from .save import save_weights
else:
    __getattr__, __dir__ = attach(__name__)

__all__ = [
    "NAMING_SCHEMES",
    "WEIGHTS",
    "LoadReport",
    "NamingScheme",
    "Preprocessing",
    "Weights",
    "WeightsFile",
    "fetch_weights",
    "find_weights",
    "load_weights",
    "open_weights",
    "save_weights",
]
