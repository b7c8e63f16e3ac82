"""`federated ledger`: what all jobs together may learn of a person, and what they did."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from voxelvault.errors import UsageError
from voxelvault.interfaces.cli.command import verb
from voxelvault.interfaces.cli.output import emit

if TYPE_CHECKING:
    from voxelvault_fl.privacy.ledger import Book

_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


@verb(
    "ledger",
    "voxelvault federated ledger --state st --epsilon 8 --delta 1e-5",
    "voxelvault federated ledger --state st",
)
@click.option("--state", required=True, type=_FOLDER, metavar="DIR", help="Of `federated site`.")
@click.option("--epsilon", type=click.FloatRange(0, min_open=True), help="Makes the ledger: the budget.")
@click.option("--delta", type=click.FloatRange(0, 1, min_open=True, max_open=True), help="With --epsilon.")
def command(state: Path, epsilon: float | None, delta: float | None, as_json: bool) -> None:
    """Make this site's privacy ledger, or show what was spent of it.

    Without one, jobs under differential privacy are refused here. Its budget holds for all jobs and stays.
    Make it before `federated site` starts.
    """
    from voxelvault_fl.protection import ledger_at

    if (epsilon is None) != (delta is None):
        raise UsageError("a budget is --epsilon and --delta together")
    ledger = ledger_at(state.resolve())
    if epsilon is not None and delta is not None:
        ledger.create(epsilon, delta)
    said = _document(ledger.read())
    emit(said, [f"{name}: {value}" for name, value in said.items()], as_json)


def _document(book: Book) -> dict[str, Any]:
    return {
        "epsilon": book.epsilon,
        "delta": book.delta,
        "spent": book.spent.epsilon,
        "rounds": len(book.charges),
        "jobs": len({one.job for one in book.charges}),
    }
