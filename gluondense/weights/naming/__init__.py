"""Naming schemes: the parameter names of other libraries, matched with a network's."""
