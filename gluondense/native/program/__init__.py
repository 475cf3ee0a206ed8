"""Whole networks as one operator of MXNet, written in C++ for this project.

The measurements behind it are in docs/benchmarks.md: MXNet spends as much as 16 microseconds on
each of hundreds of operators, and a DenseNet's normalizations and concatenations are passes over
memory that no operator of oneDNN takes into a convolution. Here a concatenation is a place in
memory, and a normalization happens on the way into the convolution behind it.

``layout.py`` gives tensors their places; ``lower.py`` makes a program over floats of a graph,
``quantized.py`` one over bytes. The operator itself is ``gluondense.native``.
"""

from .. import OPERATOR, CompilerError, build, load, loaded
from .lower import as_program
from .lower_int8 import as_byte_program

__all__ = ["OPERATOR", "CompilerError", "as_byte_program", "as_program", "build", "load", "loaded"]
