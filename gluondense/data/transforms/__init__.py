# SPDX-License-Identifier: Apache-2.0
"""Transforms of images, one at a time or a whole batch."""
