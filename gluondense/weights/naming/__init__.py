# SPDX-License-Identifier: Apache-2.0
"""Naming schemes: the parameter names of other libraries, matched with a network's."""
