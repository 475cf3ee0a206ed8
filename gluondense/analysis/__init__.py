"""Costs of networks, and predictions of a network over a data set."""
