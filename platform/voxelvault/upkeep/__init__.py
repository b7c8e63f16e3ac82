"""Keeping a vault in order: verify, repair, whose images they are, keys."""
