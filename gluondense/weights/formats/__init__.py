# SPDX-License-Identifier: Apache-2.0
"""Readers of weights files: MXNet, safetensors and PyTorch; they execute nothing."""
