# SPDX-License-Identifier: Apache-2.0
"""Loaders: batches from arrays in memory, or from encoded images decoded by processes."""
