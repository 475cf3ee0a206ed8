# SPDX-License-Identifier: Apache-2.0
"""Entry point for tools that run setup.py; the metadata are in pyproject.toml."""

from setuptools import setup

setup()
