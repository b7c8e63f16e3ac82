"""The server: a SuperLink on loopback behind the gate, and the one process that runs jobs on it."""
