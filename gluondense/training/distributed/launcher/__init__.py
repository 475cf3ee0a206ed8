"""The launcher: starts, watches and stops the processes of a distributed run."""
