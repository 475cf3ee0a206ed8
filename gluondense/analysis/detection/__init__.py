# SPDX-License-Identifier: Apache-2.0
"""Predictions of a detector over a data set, and their metrics."""
