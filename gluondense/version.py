"""The version, where every module can read it and setup.py too."""

__version__ = "0.1.0"
