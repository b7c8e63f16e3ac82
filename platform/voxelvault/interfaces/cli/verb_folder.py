"""A group whose verbs are the files of a folder, each loaded when it is typed."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import click


class VerbFolder(click.Group):
    """Finds a verb by its file, so that `--help` of one imports nothing of another.

    Parameters
    ----------
    package : str
        The package whose file `worklist.py` is the verb `worklist`; its command is called `command`.
    path : sequence of str
        Its `__path__`.
    **attributes
        What click wants to know of a group.
    """

    def __init__(self, *, package: str, path: Any, **attributes: Any) -> None:
        super().__init__(**attributes)
        self._package, self._path = package, path

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs, in alphabetical order."""
        return sorted(module.name.replace("_", "-") for module in iter_modules(self._path))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a verb, or None where no file has its name."""
        if cmd_name not in self.list_commands(ctx):
            return None
        made: click.Command = import_module(f"{self._package}.{cmd_name.replace('-', '_')}").command
        return made


__all__ = ["VerbFolder"]
