"""The operators that this project adds to MXNet, in C++, compiled on the user's machine.

``build.py`` compiles ``src/`` once and gives MXNet the library. Without a compiler there is none,
and all that stands on it has another way or says so.
"""

from ..graph.fuse_dense_stages import STAGE
from .build import OPERATOR, CompilerError, build, load, loaded

__all__ = ["OPERATOR", "STAGE", "CompilerError", "build", "load", "loaded"]
