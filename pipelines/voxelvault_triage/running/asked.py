"""From options of the command line to a runner: which pipeline and model, on which workers."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from voxelvault.interfaces.cli.command import scheduling
from voxelvault_triage.amounts import Amount

if TYPE_CHECKING:
    from voxelvault import Vault
    from voxelvault_triage.running.runner import Limits, Runner
    from voxelvault_triage.running.session import Hands


PIPELINE = "head-ct-hemorrhage"
"""That is meant where none is named."""


_SIZE = re.compile(r"auto|[1-9]\d*(\.\d+)? ?[kMGT]i?B", re.IGNORECASE)


def _size(_context: click.Context, _option: click.Parameter, value: str) -> str:
    """Refuse what is no size before workers are started with it, again and again."""
    if not _SIZE.fullmatch(value):
        raise click.BadParameter("a size such as 4GiB or 500MB, or auto")
    return value


def analysing(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb what says which pipeline, on which workers, within which limits."""

    @wraps(function)
    def passed(*given: object, cluster: dict[str, Any], **more: object) -> Any:
        return function(*given, **cluster, **more)

    options = [
        click.option("--pipeline", default=PIPELINE, show_default=True, metavar="NAME"),
        click.option("--model", metavar="NAME", help="Instead of the pipeline's: a name or digest."),
        click.option("--workers", type=click.IntRange(1), help="Of our own; one a core by default."),
        click.option(
            "--memory", default="auto", show_default=True, callback=_size, help="Most of each, such as 4GiB."
        ),
        click.option("--timeout", type=Amount(1), default=600.0, show_default=True, help="Seconds."),
        click.option("--tries", type=click.IntRange(1), default=2, show_default=True, help="For one study."),
    ]
    found: Callable[..., Any] = scheduling(passed)
    for option in reversed(options):
        found = option(found)
    return found


def prepared(vault: Vault, pipeline: str, asked: dict[str, Any]) -> tuple[Runner, str, Hands]:
    """Return the runner of a pipeline, its version, and who does the work.

    Raises
    ------
    UsageError
        There is no such pipeline, or no such model.
    """
    from voxelvault_triage.analysing import runner_for

    return *runner_for(vault, pipeline, asked["model"], limits_of(asked)), hands_of(asked)


def in_use(vault: Vault, pipeline: str, model: str | None) -> Callable[[], str] | None:
    """Return what tells the digest of the model that a pipeline uses now; None where it takes none."""
    from voxelvault_triage.pipeline import pipeline_named
    from voxelvault_triage.running.bundled import bundled_for

    made = pipeline_named(pipeline)
    name = model or made.model
    return (lambda: bundled_for(vault, made, name).digest) if name else None


def limits_of(asked: dict[str, Any]) -> Limits:
    """Return the limits that were asked for."""
    from voxelvault_triage.running.runner import Limits

    return Limits(asked["timeout"], asked["tries"])


def hands_of(asked: dict[str, Any]) -> Hands:
    """Return who is to do the work."""
    from voxelvault.interfaces.cli.output import say, shown
    from voxelvault_triage.running.session import Hands

    client = asked["client"] or "local"
    return Hands(
        client, asked["workers"], asked["memory"], asked["unsafe_spill"], tell=lambda text: say(shown(text))
    )
