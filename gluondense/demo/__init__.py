# SPDX-License-Identifier: Apache-2.0
"""A web page on which a network answers for an image: classes, their probabilities, the latency."""
