"""Tables and HTML pages of benchmark results."""
