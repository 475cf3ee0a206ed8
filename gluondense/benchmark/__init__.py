"""Speed beside the peers: processes that take turns on the same network and the same images."""

from .candidates import CANDIDATES, Candidate, available
from .race import Lap, race

__all__ = ["CANDIDATES", "Candidate", "Lap", "available", "race"]
