"""Series or a folder released: one decision, one entry of intent in the log, and one of what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from voxelvault.audit.about import about
from voxelvault.audit.events import Event, Kind, Outcome
from voxelvault.crew import Crew
from voxelvault.errors import UsageError
from voxelvault.policy.access import Request, require
from voxelvault.releasing.deidentify import FORMATS, Extras, ReleaseReport, Rules, release_as
from voxelvault.releasing.hands import There
from voxelvault.releasing.originals import Originals, VaultOriginals
from voxelvault.releasing.projects import PathLike, Using, using
from voxelvault.resources import Resources


def deidentify(
    resources: Resources,
    series_ids: Sequence[str],
    out: PathLike,
    rules: Rules,
    *,
    format: str = "vault",
    resample: bool = False,
    project: PathLike | None = None,
    key_file: PathLike | None = None,
    cohort_id: str | None = None,
    extras: Extras | None = None,
    crew: Crew | None = None,
) -> ReleaseReport:
    """De-identify series of an open vault.

    Parameters
    ----------
    resources : Resources
        The open vault.
    series_ids : sequence of str
        Opaque ids.
    out : path
        New or empty; or an unfinished release, which goes on.
    rules : Rules
        How.
    format, resample : str, bool
        What the release is; see `voxelvault.releasing.deidentify.release_as`.
    project, key_file : path, optional
        Whose pseudonyms; see `voxelvault.releasing.projects.using`.
    cohort_id : str, optional
        The cohort that the series are of, for the log.
    extras : Extras, optional
        Progress and pictures; no map, which takes two approvers.
    crew : Crew, optional
        Workers of a cluster that do it; by default this process does.

    Raises
    ------
    PolicyDenied, AuditError
        Then nothing was read.
    UsageError
        See `release_folder`; or a map was asked for.
    """
    extras = extras or Extras()
    if format not in FORMATS:
        raise UsageError(f"a release is made as one of {', '.join(FORMATS)}; choose one")
    if extras.map_file is not None:
        raise UsageError("from a vault, two approvers open what became of what: see `deidentify ledger`")
    if crew is not None:
        extras = replace(extras, hands=lambda settings: There(resources, settings, crew))
    asked = tuple(series_ids)
    require(resources.policy, Request(Kind.RELEASE_MADE, asked, resources.purpose, resources.who))
    chosen, mine = rules.profile(), using(project, resources, key_file)
    entry = about(_event(resources, mine, rules, chosen.digest, format), asked, cohort_id)

    def make() -> ReleaseReport:
        originals = VaultOriginals(resources, asked)
        return release_as(originals, out, rules, mine, extras, format=format, resample=resample)

    return _logged(resources, entry, make)


def deidentify_folder(
    resources: Resources | None,
    originals: Originals,
    out: PathLike,
    rules: Rules,
    mine: Using,
    extras: Extras,
    *,
    format: str,
    resample: bool = False,
) -> ReleaseReport:
    """De-identify a folder; where a vault is open, its policy is asked and its log has the release.

    Parameters
    ----------
    resources : Resources, optional
        The open vault.
    originals, out, rules, mine, extras, format, resample
        As `voxelvault.releasing.deidentify.release_as` takes them.

    Raises
    ------
    PolicyDenied, AuditError
        Then nothing was written.
    """

    def make() -> ReleaseReport:
        return release_as(originals, out, rules, mine, extras, format=format, resample=resample)

    if resources is None:
        return make()
    require(resources.policy, Request(Kind.RELEASE_MADE, (), resources.purpose, resources.who))
    return _logged(resources, _event(resources, mine, rules, rules.profile().digest, format), make)


def _logged(resources: Resources, entry: Event, make: Callable[[], ReleaseReport]) -> ReleaseReport:
    resources.audit.append([replace(entry, outcome=Outcome.INTENT)])
    try:
        made = make()
    except BaseException:
        resources.audit.append([replace(entry, outcome=Outcome.FAILED)])
        raise
    counts = {"files": made.report.released, "refused": sum(made.report.refused.values())}
    outcome = Outcome.OK if made.complete else Outcome.PARTIAL
    resources.audit.append([replace(entry, outcome=outcome, counts={**entry.counts, **counts})])
    return made


def _event(resources: Resources, mine: Using, rules: Rules, policy: str, format: str) -> Event:
    return Event(
        kind=Kind.RELEASE_MADE,
        who=resources.who,
        purpose=resources.purpose,
        ids={"project": (mine.opened.project.project_id,), "custodian": (mine.opened.custodian_id,)},
        digests={"policy": policy},
        codes={
            "profile": (rules.preset,),
            "format": (format.replace("-", "_"),),
            "options": tuple(rules.options),
        },
    )


__all__ = ["deidentify", "deidentify_folder"]
