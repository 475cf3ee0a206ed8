# SPDX-License-Identifier: Apache-2.0
"""Symbols as editable graphs, and the passes that transform graphs."""
