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

    Without one, jobs under differential privacy are refused here. Its budget holds for all jobs, and stays
    once a round was charged; before that the same command makes it anew. It counts from the next job on.
    """
    from voxelvault_fl.protection import ledger_at, ledger_in

    if (epsilon is None) != (delta is None):
        raise UsageError("a budget is --epsilon and --delta together")
    if epsilon is not None and delta is not None:
        ledger_at(state.resolve()).create(epsilon, delta)
    ledger = ledger_in(state.resolve())
    if ledger is None:
        raise UsageError("this site has no privacy ledger; --epsilon and --delta make one")
    book = ledger.read()
    emit(_document(book), _lines(book), as_json)


def _document(book: Book) -> dict[str, Any]:
    spent = book.spent
    return {
        "epsilon": book.epsilon,
        "delta": book.delta,
        "unit": spent.unit,
        "accountant": spent.accountant,
        "spent": spent.epsilon,
        "left": max(0.0, book.epsilon - spent.epsilon),
        "jobs": {job: len(book.of(job)) for job in dict.fromkeys(one.job for one in book.charges)},
    }


def _lines(book: Book) -> list[str]:
    from dataclasses import replace

    spent, said = book.spent, _document(book)
    return [
        f"budget: {replace(spent, epsilon=book.epsilon)}",
        f"spent: {spent}",
        f"left: epsilon {said['left']:.4g} at delta {book.delta:.3g}",
        *(f"job {job[:12]}: {rounds} rounds charged" for job, rounds in said["jobs"].items()),
    ]
