# SPDX-License-Identifier: Apache-2.0
"""Experiments: several training runs of a table, and their results over seeds."""
