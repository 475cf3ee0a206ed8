# SPDX-License-Identifier: Apache-2.0
"""The tasks that a network may have learned; MXNet is not imported."""

from __future__ import annotations

from collections.abc import Mapping

# Name of the task -> MXNet's operator that makes probabilities of the network's outputs.
ACTIVATIONS: Mapping[str, str] = {"classification": "softmax", "multi_label": "sigmoid"}
TASKS = (*ACTIVATIONS, "detection")  # what a network may have learned
