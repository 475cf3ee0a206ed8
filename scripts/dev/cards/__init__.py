# SPDX-License-Identifier: Apache-2.0
"""Model cards and tables of exports: facts of runs in JSON files, and the blocks made of them."""
