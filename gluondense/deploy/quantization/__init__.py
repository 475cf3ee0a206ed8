"""Post-training quantization to int8: calibration, range equalization and layer selection."""
