# SPDX-License-Identifier: Apache-2.0
"""The tasks that a run can learn."""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import check_known
from .base import Task
from .classification import Classification
from .detection import Detection
from .multi_label import MultiLabel

TASKS: Mapping[str, type[Task]] = {
    "classification": Classification,
    "multi_label": MultiLabel,
    "detection": Detection,
}


def find_task(name: str) -> type[Task]:
    """Look up a task; an unknown name is a ValueError that suggests similar ones."""
    check_known("task", name, TASKS)
    return TASKS[name]
