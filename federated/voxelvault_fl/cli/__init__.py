"""`voxelvault federated`: one file a verb, loaded when the verb is typed."""

from __future__ import annotations

import click

from voxelvault.interfaces.cli.verb_folder import VerbFolder


@click.group(cls=VerbFolder, package=__name__, path=__path__)
def federated() -> None:
    """Train across hospitals without moving an image. Not a medical device."""
