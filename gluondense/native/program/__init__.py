# SPDX-License-Identifier: Apache-2.0
"""Lowering of whole networks to programs that the native operator runs.

MXNet spends up to 16 microseconds on each of hundreds of operators, and in a DenseNet the
normalizations and concatenations are passes over memory that oneDNN cannot fuse into a convolution
(measurements in docs/benchmarks.md). In a program, a concatenation is a range of channels in a
wider map, and a normalization is computed while the next convolution reads its input.

``lower.py`` emits programs over float32, and ``lower_int8.py`` over bytes, from a memory plan
(``memory_plan.py``), packed weights (``packing.py``) and quantization parameters
(``channel_quantization.py``). ``operators.py`` decides which graphs can be lowered.
"""
