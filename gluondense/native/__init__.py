"""MXNet operators in C++, compiled on the user's machine.

:func:`build` compiles ``src/`` once and caches the library. Without a C++ compiler, features that
need it use MXNet's own operators or raise :class:`CompilerError`.
"""

from .build import OPERATOR, CompilerError, build, load, loaded

__all__ = ["OPERATOR", "CompilerError", "build", "load", "loaded"]
