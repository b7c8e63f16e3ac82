"""Every verb of the federation is documented, with help, an example and --json."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
import pytest

from voxelvault.interfaces.cli.command import Verb
from voxelvault_fl.cli import federated

PAGES = sorted((Path(__file__).resolve().parents[2] / "docs/reference").glob("federated*.md"))
PAGE = "\n".join(page.read_text("utf-8") for page in PAGES)
VERBS = federated.list_commands(click.Context(federated))


def test_there_are_verbs() -> None:
    assert {"provision", "serve", "site", "status", "stop", "revoke"} <= set(VERBS)


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_has_help_with_an_example_and_json(name: str, run: Any) -> None:
    found = run("federated", name, "--help")
    assert found.code == 0
    assert re.search(r"Examples?:\n  voxelvault ", found.out)
    assert "--json" in found.out


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_is_in_the_reference(name: str) -> None:
    command = federated.get_command(click.Context(federated), name)
    assert isinstance(command, Verb)
    section = re.search(
        rf"^##+ `voxelvault federated {name}`\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL
    )
    assert section, f"docs/reference lacks {name}"
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.name != "as_json":
            assert parameter.opts[0] in section[1], parameter.opts
    for example in command.examples:
        assert name in example
        assert example in section[1]
