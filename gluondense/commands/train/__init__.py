# SPDX-License-Identifier: Apache-2.0
"""The commands that train: a module for each group of data sets."""
