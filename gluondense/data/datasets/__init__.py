# SPDX-License-Identifier: Apache-2.0
"""The known data sets: a table, and one module for each source of files."""
