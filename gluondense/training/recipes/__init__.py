# SPDX-License-Identifier: Apache-2.0
"""Recipes: named configurations for each group of data sets."""
