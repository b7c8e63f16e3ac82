"""Every verb of triage is documented, with help, examples and --json."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from voxelvault.interfaces.cli.command import Verb
from voxelvault_triage.cli import triage

PAGE = (Path(__file__).resolve().parents[2] / "docs/reference/triage.md").read_text("utf-8")


def verbs(group: click.Group = triage, path: str = "triage") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from verbs(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


VERBS = dict(verbs())


def test_there_are_verbs() -> None:
    assert {"triage run", "triage watch", "triage worklist", "triage models install"} <= VERBS.keys()


@pytest.mark.parametrize("path", VERBS)
def test_every_verb_has_help_with_an_example_and_json(path: str, run: Any) -> None:
    found = run(*path.split(), "--help")
    assert found.code == 0
    assert re.search(r"Examples?:\n  voxelvault ", found.out)
    assert "--json" in found.out


@pytest.mark.parametrize("path", VERBS)
def test_every_verb_is_in_the_reference(path: str) -> None:
    command = VERBS[path]
    assert isinstance(command, Verb)
    section = re.search(rf"^##+ `voxelvault {path}`\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert section, f"docs/reference/triage.md lacks {path}"
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.opts[0] in section[1], parameter.opts
    for example in command.examples:
        assert path.split()[-1] in example
        assert example in section[1]
