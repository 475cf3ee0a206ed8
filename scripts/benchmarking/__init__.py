"""Speed beside the peers: processes that take turns on the same network and the same images."""

from .candidates import PEERS, Candidate
from .race import Lap, race

__all__ = ["PEERS", "Candidate", "Lap", "race"]
