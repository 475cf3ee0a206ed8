# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of gluondense beside other frameworks, interleaved on the same machine.

Modules at this level run in the benchmark's process, those of ``workers`` in processes of their
own, and ``pages`` renders results.
"""
