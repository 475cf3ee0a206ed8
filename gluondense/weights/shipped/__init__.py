# SPDX-License-Identifier: Apache-2.0
"""Weights in the package: small files of networks that gluondense trained, and their rows.

``scripts/dev/publish_run.py`` writes both from a run's folder.
"""
