# SPDX-License-Identifier: Apache-2.0
"""Post-training quantization to int8: calibration, range equalization and layer selection."""
