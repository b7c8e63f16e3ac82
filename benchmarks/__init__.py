"""What voxelvault claims of its speed and size, measured beside the peer or the limit in one run."""
