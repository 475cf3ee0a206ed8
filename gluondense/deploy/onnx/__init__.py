# SPDX-License-Identifier: Apache-2.0
"""Export to ONNX in float32 and int8, and execution in ONNX Runtime."""
