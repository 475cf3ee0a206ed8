# SPDX-License-Identifier: Apache-2.0
"""PyTorch's zip and legacy files, read by a pickle interpreter that imports nothing."""
