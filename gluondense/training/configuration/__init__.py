# SPDX-License-Identifier: Apache-2.0
"""The sections of a run's configuration, their fields and rules."""
