# SPDX-License-Identifier: Apache-2.0
"""The commands that show why a network answers so."""
