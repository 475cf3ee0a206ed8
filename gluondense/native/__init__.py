# SPDX-License-Identifier: Apache-2.0
"""MXNet operators in C++, compiled on the user's machine.

:func:`build` compiles ``src/`` once and caches the library. Without a C++ compiler, features that
need it use MXNet's own operators or raise :class:`CompilerError`.
"""

from ..graph.fuse_dense_stages import STAGE
from .build import BOXES, OPERATOR, CompilerError, build, load, loaded

__all__ = ["BOXES", "OPERATOR", "STAGE", "CompilerError", "build", "load", "loaded"]
