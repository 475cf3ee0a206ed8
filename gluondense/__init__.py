"""The DenseNet family for Apache MXNet: DenseNet, CSP-DenseNet and DPN as Gluon networks."""

from __future__ import annotations

from . import environment

environment.prepare()  # before anything imports MXNet: its threads are fixed when its library loads

__version__ = "0.1.0"
