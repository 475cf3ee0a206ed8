# SPDX-License-Identifier: Apache-2.0
"""The version of gluondense, and of the software that its numbers depend on."""

from __future__ import annotations

import platform

__version__ = "0.1.0"


def versions() -> dict[str, str]:
    """Return the versions of the software that results depend on, by package name."""
    import mxnet
    import numpy

    return {
        "gluondense": __version__,
        "mxnet": mxnet.__version__,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
    }
