"""Event files that TensorBoard shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional


class Events:
    """Writes numbers for TensorBoard, or nothing.

    Parameters
    ----------
    folder
        Where the files go; None writes nothing.
    step
        Steps done before: what an earlier process wrote beyond is hidden.

    Raises
    ------
    ValueError
        If tensorboardX is not installed.
    """

    def __init__(self, folder: Optional[Path], step: int = 0) -> None:
        self._writer: Any = None
        if folder is None:
            return
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise ValueError(
                'tensorboard needs a package: pip install "gluondense[tensorboard]"'
            ) from None
        self._writer = SummaryWriter(str(folder), purge_step=step or None)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Note numbers after a step."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()
