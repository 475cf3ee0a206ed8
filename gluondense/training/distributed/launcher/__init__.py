"""The launcher: starts, watches and stops the processes of a distributed run."""

from .hosts import LOCALHOST, Host, free_port, read_hosts
from .job import Job

__all__ = ["LOCALHOST", "Host", "Job", "free_port", "read_hosts"]
