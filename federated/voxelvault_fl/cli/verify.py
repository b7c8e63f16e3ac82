"""`federated verify`: who attests what of a model."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from voxelvault.interfaces.cli.command import PARTLY, verb
from voxelvault.interfaces.cli.output import emit, plain, shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from voxelvault_fl.record.provenance import Proved, SiteProof

_PATH = click.Path(path_type=Path, exists=True)


@verb("verify", "voxelvault federated verify model/bundle --authority kit/ca.pem")
@click.argument("model", type=_PATH)
@click.option("--authority", type=_PATH, help="The consortium's certificate: ca.pem of your own kit.")
def command(model: Path, authority: Path | None, as_json: bool) -> None:
    """Prove which sites attested which cohorts, rounds, code and terms of MODEL, a bundle.

    It proves what was attested, not that anybody computed honestly. Exit code 3 where a site that trained, or
    the server, attests nothing, a site other code than the job's, or nobody cosigned a log.
    """
    from voxelvault_fl.record.bundle import verify_bundle

    proved = verify_bundle(model, None if authority is None else authority.read_bytes())
    emit({**plain(proved), "whole": proved.whole}, _lines(proved, authority is not None), as_json)
    if not proved.whole:
        click.get_current_context().exit(PARTLY)


def _lines(proved: Proved, pinned: bool) -> list[str]:
    from voxelvault_fl.record.provenance import HONESTY

    job = proved.job
    privacy = job.privacy.mode if job.privacy.mode != "none" else job.warning
    lines = [
        f"model of round {proved.round} of {proved.last}, weights {proved.weights[:16]}",
        f"job {job.digest[:16]} of {job.consortium}: {job.strategy.name}, purpose {shown(job.purpose)}, "
        f"lawful basis {shown(job.lawful_basis)}, code {job.app_digest[:16]}",
        f"privacy: {privacy}",
        *(_site(name, site, job.app_digest) for name, site in sorted(proved.sites.items())),
        "server: " + ("attests the record; " + _by(proved.server) if proved.server else "attests nothing"),
        f"authority {proved.authority}"
        + ("" if pinned else ": compare it with your own kit's, or give that with --authority"),
        HONESTY,
    ]
    return lines


def _site(name: str, site: SiteProof, app: str) -> str:
    rounds = f"rounds {_spans(site.rounds)}" if site.rounds else "no round"
    said = f"{name}: {rounds}; cohort {site.cohort[:16]} of {site.count}{_spent(site.spent)}"
    if site.attested is None:
        return f"{said}; its log attests nothing"
    code = "the job's code" if site.attested.app == app else "OTHER code than the job's"
    return f"{said}; its log attests the record and {code}; {_by(site.attested)}"


def _spans(numbers: Sequence[int]) -> str:
    """Return rising numbers in short: 1 to 3, 5."""
    runs = groupby(enumerate(numbers), lambda at: at[1] - at[0])
    spans = ([number for _, number in run] for _, run in runs)
    return ", ".join(f"{one[0]} to {one[-1]}" if len(one) > 1 else str(one[0]) for one in spans)


def _spent(said: Mapping[str, Any]) -> str:
    """Return what privacy cost, with what the number means: as the site said it, whatever that is."""
    if not said:
        return ""
    epsilon, delta = (
        f"{one:.4g}" if isinstance(one, int | float) else shown(one)
        for one in (said.get("epsilon"), said.get("delta"))
    )
    unit, accountant = shown(said.get("unit")), shown(said.get("accountant"))
    return f"; epsilon {epsilon} at delta {delta}; unit: {unit}; {accountant}"


def _by(attested: Any) -> str:
    names = ", ".join(attested.cosigned)
    return f"cosigned by {names}" if names else "cosigned by nobody"
