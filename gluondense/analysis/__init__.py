# SPDX-License-Identifier: Apache-2.0
"""Costs of networks, and predictions of a network over a data set."""
