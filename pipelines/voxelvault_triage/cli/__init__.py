"""`voxelvault triage`: one file a verb, loaded when the verb is typed.

A file `worklist.py` beside this one is the verb `worklist`; its command is called `command`.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

import click


class _Verbs(click.Group):
    """Finds a verb by its file, so that `--help` of one imports nothing of another."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(module.name for module in iter_modules(__path__))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        made: click.Command = import_module(f"{__name__}.{cmd_name}").command
        return made


@click.group(cls=_Verbs)
def triage() -> None:
    """Analyse new studies and order the worklist. Not a medical device."""
