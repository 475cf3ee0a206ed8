"""The known data sets: a table, and one module for each source of files."""
