# SPDX-License-Identifier: Apache-2.0
"""Data-parallel training with several processes and MXNet's parameter server."""
