"""Data-parallel training with several processes and MXNet's parameter server."""
