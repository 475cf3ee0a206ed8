"""Recipes: named configurations for each group of data sets."""
