# SPDX-License-Identifier: Apache-2.0
"""The commands that explain a network's predictions."""
