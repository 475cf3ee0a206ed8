"""PyTorch's zip and legacy files, read by a pickle interpreter that imports nothing."""
