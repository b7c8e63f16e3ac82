"""`federated approve`: somebody at a site looks at a job, and lets it in or stops it."""

from __future__ import annotations

import json
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from voxelvault.errors import UsageError
from voxelvault.interfaces.cli.command import Session, pass_session, verb
from voxelvault.interfaces.cli.output import emit, say, table
from voxelvault.interfaces.cli.output import shown as harmless
from voxelvault_fl.errors import JobRefused, KitRefused

if TYPE_CHECKING:
    from voxelvault_fl.consortium import Consortium
    from voxelvault_fl.jobs.job import Job
    from voxelvault_fl.jobs.policy import SitePolicy
    from voxelvault_fl.provisioning.kit import Kit
    from voxelvault_fl.rounds.site_state import SiteState

_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@verb(
    "approve",
    "voxelvault --vault ~/vault federated approve --kit kit --state st --policy policy.toml",
    "voxelvault --vault ~/vault federated approve 3f2a --kit kit --state st --policy policy.toml --yes",
    "voxelvault federated approve 3f2a --kit kit --state st --policy policy.toml --stop",
)
@click.argument("job", required=False)
@click.option("--kit", required=True, type=_FOLDER, metavar="DIR", help="This site's.")
@click.option("--state", required=True, type=_FOLDER, metavar="DIR", help="Of `federated site`.")
@click.option("--policy", required=True, type=_FILE, metavar="FILE", help="What this site lets in.")
@click.option("--yes", is_flag=True, help="Approve it: what leaves was read.")
@click.option("--stop", is_flag=True, help="Stop it here, for good.")
@pass_session
def command(
    session: Session,
    job: str | None,
    kit: Path,
    state: Path,
    policy: Path,
    yes: bool,
    stop: bool,
    as_json: bool,
) -> None:
    """Show the jobs that were offered here, or one of them with what would leave; approve or stop it.

    JOB is the beginning of a digest. A job that breaks a rule of the policy, the consortium's terms, or what
    is left of the privacy ledger, runs in no case.
    """
    from voxelvault_fl.jobs.job import SignedJob
    from voxelvault_fl.jobs.policy import read_policy
    from voxelvault_fl.provisioning.kit import read_kit
    from voxelvault_fl.provisioning.newest import NewestKit
    from voxelvault_fl.rounds.site_state import SiteState, standing
    from voxelvault_fl.site.clock import Forward

    mine_kit = read_kit(kit)
    _require_own(mine_kit, state)
    found = sorted(one for one in (state / "jobs").glob("*") if (one / "job.json").exists())
    if job is None:
        offered = {one.name: standing(one) for one in found}
        rows = [
            (name[:12], one.get("id", ""), one["status"], one.get("rule", ""))
            for name, one in offered.items()
        ]
        text = table(("job", "id", "status", "rule"), rows) if rows else ["no job was offered yet"]
        emit(offered, text, as_json)
        return
    chosen = [one for one in found if one.name.startswith(job)]
    if len(chosen) != 1:
        raise UsageError("no job, or more than one, begins like that; without JOB they are listed")
    mine = SiteState(chosen[0], chosen[0].name)
    if stop:
        # First of all: whatever else can't be said of the job, it stops.
        _require_running(mine)
        mine.stop()
    roster = NewestKit(mine_kit, state, say)().roster
    lead = roster.party(roster.consortium.lead).verifying_key()
    signed = SignedJob.loads((chosen[0] / "job.json").read_bytes(), lead).job
    own = read_policy(policy)
    shown = _shown(session, signed, own, roster.consortium, Forward(state)(), state)
    if yes and not stop:
        _require_open(shown["rule"], mine)
        mine.approve()
    approved = not (shown["rule"] or mine.stopped) and (mine.approved or own.approval == "by-policy")
    shown |= {"approval": own.approval, "approved": approved, "stopped": mine.stopped}
    emit(shown, _lines(shown), as_json)


def _require_own(kit: Kit, state: Path) -> None:
    """Require a site's kit, and the folder from which that site takes part."""
    from voxelvault_fl.provisioning.files import read_json

    if kit.role != "site":
        raise KitRefused("this kit is not a site's; a job is approved with the kit of `federated site`")
    said = read_json(state / "status.json")
    if (said.get("consortium"), said.get("site")) != (kit.consortium.id, kit.party):
        raise KitRefused(
            f"this folder isn't the one from which {kit.party} of {kit.consortium.id}, whose kit this is, "
            "takes part; name that of its `federated site`"
        )


def _require_running(mine: SiteState) -> None:
    if mine.finished:
        raise JobRefused("finished", "the job is finished: there is nothing left to approve or to stop")


def _require_open(rule: str, mine: SiteState) -> None:
    if mine.stopped:
        raise JobRefused(
            "stopped", "not approved: the job was stopped here for good; the lead submits another"
        )
    _require_running(mine)
    if rule:
        raise JobRefused(
            rule, "not approved: the job breaks a rule of the policy, the consortium's terms or the ledger"
        )


def _shown(
    session: Session, job: Job, own: SitePolicy, consortium: Consortium, now: datetime, state: Path
) -> dict[str, Any]:
    from voxelvault_fl.jobs.policy import unmet, what_leaves
    from voxelvault_fl.jobs.strict import plain
    from voxelvault_fl.jobs.terms import bounded, lines
    from voxelvault_fl.protection import Protection, ledger_in

    terms = consortium.terms
    policy = bounded(own, terms)
    protection = Protection(partial(ledger_in, state), None, lambda: now)
    said = plain(job)
    asked = ("id", "expires", "model", "cohort", "labels", "rounds", "min_sites", "max_sites", "strategy")
    shown: dict[str, Any] = {
        "job": job.digest,
        **{name: said[name] for name in asked},
        "code": job.app_digest,
        "purpose": job.purpose,
        "lawful_basis": job.lawful_basis,
        "privacy": job.privacy.mode,
        **protection.costs(job),
        "rule": unmet(job, policy, now) or protection.rule(job),
        "terms": list(lines(terms)),
        "leaves": list(what_leaves(job, policy, terms.site_metrics)),
    }
    if session.vault and not shown["rule"]:
        from voxelvault_fl.cohorts.members import members

        with session.open() as vault:
            shown["subjects"] = len({one.subject_id for one in members(vault, job.cohort)})
    return shown


def _lines(shown: dict[str, Any]) -> list[str]:
    head = [
        f"{name}: {harmless(json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value)}"
        for name, value in shown.items()
        if not isinstance(value, list) and value != ""
    ]
    terms = ["the consortium's terms:", *(f"- {line}" for line in shown["terms"])]
    return [*head, *terms, "what leaves:", *(f"- {line}" for line in shown["leaves"])]
