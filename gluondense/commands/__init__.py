# SPDX-License-Identifier: Apache-2.0
"""Commands: a module for each, called by ``gluondense COMMAND`` and ``python scripts/NAME.py``.

Modules are imported at once but MXNet, NumPy and what needs them only after the arguments have been
parsed, so that ``--help`` answers immediately.
"""
