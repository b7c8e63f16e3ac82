"""Figures, widgets and HTML from plain arrays and values."""
