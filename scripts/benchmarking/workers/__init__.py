# SPDX-License-Identifier: Apache-2.0
"""Programs that run in a process of their own; inference workers do not import gluondense."""
