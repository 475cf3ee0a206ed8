# SPDX-License-Identifier: Apache-2.0
"""Tables and HTML pages of benchmark results."""
