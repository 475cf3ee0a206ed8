# SPDX-License-Identifier: Apache-2.0
"""Building blocks of HTML reports: pages, tables, image galleries and plotly figures."""
