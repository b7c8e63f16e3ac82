"""Two lists, kept apart: analyses that are to be done, and studies that are to be read."""
