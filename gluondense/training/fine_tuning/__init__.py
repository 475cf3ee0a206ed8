# SPDX-License-Identifier: Apache-2.0
"""Training that starts from other weights: what is loaded, frozen and cached."""
