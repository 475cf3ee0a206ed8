# SPDX-License-Identifier: Apache-2.0
"""Prepare the process for MXNet 1.9.1: threads, removed NumPy and Python names, clear errors."""

from .process import (
    MXNetImportedFirstWarning,
    drop_server_threads,
    import_gluoncv,
    patches,
    prepare,
    usable_cores,
)

__all__ = [
    "MXNetImportedFirstWarning",
    "drop_server_threads",
    "import_gluoncv",
    "patches",
    "prepare",
    "usable_cores",
]
