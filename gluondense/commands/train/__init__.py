"""The commands that train: a module for each group of data sets."""
