"""Readers of weights files: MXNet, safetensors and PyTorch; they execute nothing."""
