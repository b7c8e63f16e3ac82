"""Figures, widgets and HTML from plain arrays and values."""

from voxelvault.display.contact_sheet import contact_sheet, pick
from voxelvault.display.html import card, table
from voxelvault.display.image import edge_letters, png, to_image
from voxelvault.display.progress import Progress
from voxelvault.display.viewer import render, viewer
from voxelvault.display.window import PRESETS, Window, auto_window, choose_window, to_uint8

__all__ = [
    "PRESETS",
    "Progress",
    "Window",
    "auto_window",
    "card",
    "choose_window",
    "contact_sheet",
    "edge_letters",
    "pick",
    "png",
    "render",
    "table",
    "to_image",
    "to_uint8",
    "viewer",
]
