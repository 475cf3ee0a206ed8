"""Loaders: batches from arrays in memory, or from encoded images decoded by processes."""
