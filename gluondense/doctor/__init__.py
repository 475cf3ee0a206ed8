# SPDX-License-Identifier: Apache-2.0
"""Checks of an installation and its machine, each with what to do where something isn't right."""
