"""Releases: originals are read, rewritten by rule, searched again, and put into another place."""
