# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: folders with a network's weights, its description and the training state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...lazy import attach

if TYPE_CHECKING:
    from .description import Checkpoint as Checkpoint
    from .read import find as find
    from .read import load as load
    from .read import load_newest as load_newest
    from .schema import AVERAGE as AVERAGE
    from .schema import PARAMS as PARAMS
    from .write import save as save
else:
    __getattr__, __dir__ = attach(__name__)
