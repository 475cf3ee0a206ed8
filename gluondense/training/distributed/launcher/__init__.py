"""Starting, watching and stopping the processes of a distributed run."""

from .hosts import HERE, Host, free_port, read_hosts
from .job import Job
from .member import LOST_EXIT

__all__ = ["HERE", "LOST_EXIT", "Host", "Job", "free_port", "read_hosts"]
