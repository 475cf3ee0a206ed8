"""Symbols as editable graphs, and the passes that transform graphs."""
