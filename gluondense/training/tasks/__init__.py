# SPDX-License-Identifier: Apache-2.0
"""What a run learns: targets, loss, metrics and predictions."""
