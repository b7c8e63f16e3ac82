"""Faces: found by geometry, and taken off with one mask for a whole frame of reference."""
