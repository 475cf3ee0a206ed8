"""The tasks that a run can learn."""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import check_known
from .base import Task
from .classification import Classification

TASKS: Mapping[str, type[Task]] = {"classification": Classification}


def find_task(name: str) -> type[Task]:
    """Look up a task.

    Raises
    ------
    ValueError
        If there is no such task.

    Examples
    --------
    >>> find_task("classification").best.column
    'test_acc'
    """
    check_known("task", name, TASKS)
    return TASKS[name]
