# SPDX-License-Identifier: Apache-2.0
"""The drawn figures of the docs, as SVG: ``python scripts/dev/draw_figures.py`` writes them."""
