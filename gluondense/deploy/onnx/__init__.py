"""Export to ONNX in float32 and int8, and execution in ONNX Runtime."""
