# SPDX-License-Identifier: Apache-2.0
"""The launcher: starts, watches and stops the processes of a distributed run."""
