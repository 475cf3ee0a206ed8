"""Programs that run in a process of their own; inference workers do not import gluondense."""
