# SPDX-License-Identifier: Apache-2.0
"""People's own images: class folders, or a CSV file of paths and labels."""
