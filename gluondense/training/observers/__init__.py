# SPDX-License-Identifier: Apache-2.0
"""Observers of the training loop: files, log, event files, moving average and stop requests."""
