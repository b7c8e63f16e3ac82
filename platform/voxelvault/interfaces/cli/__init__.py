"""The `voxelvault` command: one file a verb group, nothing heavy imported before a verb needs it."""

from voxelvault.interfaces.cli.app import main

__all__ = ["main"]
