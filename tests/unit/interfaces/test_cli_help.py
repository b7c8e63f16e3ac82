"""Every verb is documented, help is quick, and mistakes get one line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from voxelvault.interfaces.cli import app
from voxelvault.interfaces.cli.command import Verb

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/reference/cli.md").read_text("utf-8")


def verbs(group: click.Group = app.cli, path: str = "voxelvault") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from verbs(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


VERBS = dict(verbs())


def test_the_verbs_are_those_of_the_design() -> None:
    names = {path.removeprefix("voxelvault ") for path in VERBS}
    audit = {f"audit {name}" for name in ("log", "verify", "prove", "checkpoint", "cosign", "witness")}
    keys = {f"keys {name}" for name in ("list", "add", "remove", "rotate", "recover", "public")}
    quarantine = {f"quarantine {name}" for name in ("list", "export", "retry")}
    deidentify = {
        *("release", "verify", "card", "explain", "pictures", "custodian public", "approver new"),
        *(f"project {name}" for name in ("create", "show", "add-custodian", "add-approver")),
        *(f"project {name}" for name in ("remove-custodian", "remove-approver")),
        *(f"ledger {name}" for name in ("request", "approve", "open")),
    }
    rest = {"init", "ingest", "sql", "show", "export", "verify", "compact", "info", "lab", "demo"}
    assert names == audit | keys | quarantine | rest | {f"deidentify {name}" for name in deidentify}


@pytest.mark.parametrize("path", VERBS)
def test_every_verb_has_help_with_an_example_and_json(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = VERBS[path]
    assert isinstance(command, Verb)
    assert app.main([*path.split()[1:], "--help"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"Examples?:\n  voxelvault ", shown)
    assert "--json" in shown
    for example in command.examples:
        # `deidentify SRC` is `deidentify release SRC`.
        assert path.removesuffix(" release").split()[-1] in example
        assert example in shown


@pytest.mark.parametrize("path", VERBS)
def test_every_verb_is_in_the_reference(path: str) -> None:
    command = VERBS[path]
    assert isinstance(command, Verb)
    section = re.search(rf"^##+ `{path}`\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert section, f"docs/reference/cli.md lacks {path}"
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.opts[-1] in section[1], parameter.opts
    for example in command.examples:
        assert example in section[1]


def test_every_global_option_is_in_the_reference() -> None:
    for parameter in app.cli.params:
        assert f"`{parameter.opts[-1]}" in PAGE, parameter.opts


@pytest.mark.parametrize("path", ["voxelvault keys remove", "voxelvault keys rotate", "voxelvault ingest"])
def test_destructive_verbs_have_a_plan(path: str) -> None:
    names = {option for parameter in VERBS[path].params for option in parameter.opts}
    assert {"--dry-run", "--yes"} <= names


def test_the_examples_parse() -> None:
    import shlex

    for path, command in VERBS.items():
        assert isinstance(command, Verb)
        for example in command.examples:
            words = shlex.split(re.split(r" [<>] ", example)[0])[1:]
            context: Any = app.cli.make_context("voxelvault", words)
            group: click.Group = app.cli
            for _ in path.split()[1:-1]:
                _, found, _ = group.resolve_command(context, context._protected_args + context.args)
                assert isinstance(found, click.Group)
                context = found.make_context(found.name, (context._protected_args + context.args)[1:])
                group = found
            rest = (context._protected_args + context.args)[1:]
            command.make_context(command.name, list(rest))


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    heavy = ("zarr", "duckdb", "pydicom", "dask", "numpy", "pyarrow", "cryptography", "PIL")
    code = (
        "import sys, json\nfrom voxelvault.interfaces.cli import main\n"
        "assert main(['--help']) == 0\nassert main(['ingest', '--help']) == 0\n"
        f"print(json.dumps([name for name in {heavy!r} if name in sys.modules]))"
    )
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # The bound is the benchmark's to hold; this notices a heavy import on a busy machine.
    assert time.perf_counter() - started < 3
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_usage_mistakes_get_one_line_and_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ["ingest"],
        ["nonsense"],
        ["export", "--out", "x"],
        ["--nonsense"],
        ["sql"],
        ["keys", "add", "x"],
    ):
        assert app.main(words) == 2, words
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("voxelvault: ")
        assert err.count("\n") == 1


def test_no_verb_at_all_prints_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main([]) == 2
    assert "ingest" in capsys.readouterr().err
    assert app.main(["keys"]) == 2
    assert "rotate" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    from voxelvault import __version__

    assert app.main(["--version"]) == 0
    assert __version__ in capsys.readouterr().out
