"""The one server app: a process that registers the sites at the SuperLink and runs the submitted jobs."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from safetensors import SafetensorError
from safetensors.numpy import load, save

from voxelvault.errors import AuditError, IntegrityError, NoSpace, StorageError
from voxelvault.files import disk_error
from voxelvault_fl.consortium import Terms
from voxelvault_fl.errors import JobRefused, KitRefused, StrangeSuperLink
from voxelvault_fl.hospital import broadcasting, now
from voxelvault_fl.jobs.app import app_digest
from voxelvault_fl.jobs.job import SignedJob
from voxelvault_fl.jobs.task import Weights
from voxelvault_fl.jobs.terms import require_within
from voxelvault_fl.processes.intake import ALLOWANCE
from voxelvault_fl.processes.lifetime import tell
from voxelvault_fl.processes.outgoing import stay_here
from voxelvault_fl.processes.tasks import Runtime
from voxelvault_fl.provisioning.files import write
from voxelvault_fl.provisioning.kit import Kit, read_kit
from voxelvault_fl.provisioning.newest import NewestKit
from voxelvault_fl.provisioning.roster import Roster
from voxelvault_fl.record.desk import Desk, desk
from voxelvault_fl.record.office import MOST_BYTES
from voxelvault_fl.rounds.asking import Parties, largest_answer
from voxelvault_fl.rounds.records import Record
from voxelvault_fl.rounds.run import OPEN, Outcome, Run
from voxelvault_fl.rounds.run_state import RunState
from voxelvault_fl.server.flower_sites import FlowerSites
from voxelvault_fl.server.folder import ServerFolder
from voxelvault_fl.server.recording import Recording
from voxelvault_fl.server.superlink import SuperLink

_log = logging.getLogger("voxelvault_fl.server")
_PAUSE = 0.5
_TRIES = 4
_REST, _LONG_REST = 30.0, 300.0
"""Seconds until a job is tried again: where too few sites answered, and where this machine failed."""
_ENDS = ("expired", "withdrawn")
"""Rules with which a job ends that isn't wrong."""
_FOR_GOOD = frozenset({"job-id", "stopped"})
"""Rules of a site that nothing changes which is done there; a policy, labels or a cohort may change."""
_WRAPPING = 1 << 18
"""Bytes, more than enough, that Flower puts around an answer."""


@dataclass
class Runner:
    """Runs the jobs of a server's folder in turn, the oldest first.

    Parameters
    ----------
    folder : ServerFolder
        Of this server.
    kit : callable
        Gives the server's, with the newest roster.
    superlink : SuperLink
        On loopback.
    desk : Desk
        Of the server's log and letters.
    patience : float
        Seconds that a site has for an answer.
    now : callable
        The time, UTC.
    """

    folder: ServerFolder
    kit: Callable[[], Kit]
    superlink: SuperLink
    desk: Desk
    patience: float
    now: Callable[[], datetime] = now
    _resting: dict[str, float] = field(default_factory=dict)
    _tried: dict[str, float] = field(default_factory=dict)
    _standing: dict[str, dict[str, Any]] = field(default_factory=dict)
    _registered: int = -1

    def serve(self, going_on: Callable[[], bool]) -> None:
        """Register the sites and run what is submitted, for as long as `going_on` says."""
        self.superlink.check()
        self._stands()
        self.superlink.end_runs()
        while going_on():
            self._roster()
            job = self._next()
            if job is None:
                time.sleep(_PAUSE)
            else:
                self._run(job)

    def _next(self) -> Path | None:
        """Return of the jobs that don't rest one that was never tried, or the one tried longest ago."""
        now = time.monotonic()
        free = [one for one in self.folder.waiting() if self._resting.get(one.name, 0) <= now]
        return min(free, key=lambda one: self._tried.get(one.name, 0), default=None)

    def _roster(self) -> Roster:
        """Return the newest roster, whose sites are registered: also those that came while a job runs."""
        roster = self.kit().roster
        if roster.serial != self._registered:
            self.superlink.register(roster.sites())
            self._registered = roster.serial
            write(self.folder.registered, str(roster.serial).encode())
        return roster

    def _run(self, job: Path) -> None:
        """Run a job until it is settled, or rests; whatever goes wrong, the other jobs have their turn."""
        self._stands(job.name, status="runs", rule="")
        try:
            why = self._worked(job)
        except Exception as error:
            _log.exception("job %s can't go on here", job.name[:12])
            why = fault(error)
        self._rest(job.name, why)

    def _worked(self, job: Path) -> str:
        """Settle a job; or say in a word why it rests."""
        _log.info("job %s starts or goes on", job.name[:12])
        try:
            outcome, proved = self._rounds(self._signed(job), job)
        except JobRefused as refused:
            # What is wrong with the job itself is wrong for good.
            _log.error("job %s: %s", job.name[:12], refused)
            status = refused.rule if refused.rule in _ENDS else "refused"
            self.folder.settle(job.name, {"status": status, "rule": refused.rule})
            return ""
        except FileNotFoundError:
            if (job / "job.json").exists():
                raise
            _log.warning("job %s: its folder is gone; `federated withdraw` ends a job", job.name[:12])
            return ""
        if outcome.status == "stalled":
            said = self._said(outcome.decisions)
            if rule := _for_good(said):
                _log.error("job %s: every site refused it for good: %s", job.name[:12], said)
                self.folder.settle(job.name, {"status": "refused", "rule": rule, "decisions": said})
                return ""
            # Sites may still approve it or come back; other jobs don't wait for that.
            _log.info("job %s rests; sites say: %s", job.name[:12], said)
            self._stands(job.name, sites=said)
            return "too-few-sites"
        self._keep(job.name, outcome, proved)
        return ""

    def _rest(self, job: str, why: str) -> None:
        """Let a job rest, and say so where `status` reads it; with no reason it is settled."""
        self._tried[job] = time.monotonic()
        if why:
            self._resting[job] = self._tried[job] + (_REST if why == "too-few-sites" else _LONG_REST)
            self._stands(job, status="rests", rule=why)
        else:
            self._standing.pop(job, None)
            self._stands()

    def _stands(self, job: str = "", **said: Any) -> None:
        """Tell `status` how the jobs stand that have begun, and something more of one of them."""
        if job:
            self._standing[job] = {**self._standing.get(job, {}), **said}
        # A full disk is a reason to rest: that it can't be written down ends nothing.
        tell(self.folder.standing, self._standing)

    def _said(self, decisions: Mapping[str, str]) -> dict[str, str]:
        """Return what sites said of a job, and that the others of the roster don't answer."""
        return dict.fromkeys((site.name for site in self._roster().sites()), OPEN[0]) | dict(decisions)

    def _signed(self, job: Path) -> SignedJob:
        """Return a job that the lead of now signed, within the terms of now, not withdrawn nor expired."""
        if self.folder.withdrawn(job):
            raise JobRefused("withdrawn", "the lead withdrew it; what its rounds gave is in its run's folder")
        kit = self.kit()
        lead = kit.roster.party(kit.consortium.lead).verifying_key()
        signed = SignedJob.loads((job / "job.json").read_bytes(), lead)
        if signed.job.digest != job.name:
            raise JobRefused("malformed", "the job's folder isn't named by its digest; submit it again")
        require_within(signed.job, kit.consortium)
        if signed.job.expires <= self.now():
            raise JobRefused("expired", "no site answers it any more; submit another with a later expiry")
        return signed

    def _terms(self, job: Path) -> Terms:
        """Return the terms of now, once the job was checked against all that may have changed in a run."""
        self._signed(job)
        return self.kit().consortium.terms

    def _first(self, job: Path) -> Weights:
        data = (job / "first.safetensors").read_bytes()
        try:
            return load(data)
        except (SafetensorError, ValueError, KeyError, TypeError):
            raise JobRefused("initial-weights", "the first weights are no safetensors") from None

    def _rounds(self, signed: SignedJob, job: Path) -> tuple[Outcome, bool]:
        """Run a job, and at its end make the bundle that proves it; tell whether there is one."""
        first = self._first(job)
        write(self.folder.path / ALLOWANCE, str(_allowance(first)).encode())
        with self.superlink.run() as grid:
            sites = FlowerSites(grid, self.superlink.nodes, self._roster, self.patience)
            parties = Parties(self.kit().keys.signing, self._key_of, sites)
            state = RunState(self.folder.runs / job.name, signed.job.digest)
            recording = Recording(self.desk, self.kit, signed, state)
            recording.begin()

            def noted(record: Record) -> None:
                recording.noted(record)
                aside = ", ".join(f"{site} {why}" for site, why in sorted(record.aside.items())) or "nobody"
                _log.info("job %s: %s %d, set aside: %s", job.name[:12], record.kind, record.round, aside)
                told()

            def pause(tries: int) -> bool:
                told()
                return self._pause(tries)

            def told() -> None:
                self._stands(job.name, sites=self._said(run.decisions), round=max(state.last, 0))

            run = Run(
                signed, first, parties, state, broadcasting(signed.job, first), noted, pause,
                lambda: self._terms(job),
            )  # fmt: skip
            outcome = run.go()
            ended = outcome.status != "stalled"
            return outcome, ended and recording.prove(outcome, sites, self.folder.model(job.name))

    def _key_of(self, site: str) -> Ed25519PublicKey:
        return self._roster().party(site).verifying_key()

    def _pause(self, tries: int) -> bool:
        time.sleep(2.0**tries)
        return tries < _TRIES

    def _keep(self, job: str, outcome: Outcome, proved: bool) -> None:
        write(self.folder.runs / job / "model.safetensors", save(outcome.weights))
        said = {
            "status": outcome.status,
            "round": outcome.round,
            "best": outcome.best,
            "proved": proved,
            "decisions": dict(outcome.decisions),
            "tested": dict(outcome.tested),
            **({} if outcome.measured else {"rule": "no-figures"}),
        }
        self.folder.settle(job, said)
        _log.info("job %s: %s in round %d", job[:12], outcome.status, outcome.round)


def _for_good(said: Mapping[str, str]) -> str:
    """Return the rule with which every site of the roster refused a job for good; empty where one didn't."""
    rules = set(said.values())
    return min(rules) if rules and rules <= _FOR_GOOD else ""


def _allowance(model: Weights) -> int:
    """Return the bytes that a site may have at rest here in a run: an answer or a bag of letters."""
    return max(largest_answer(model), MOST_BYTES) + _WRAPPING


def fault(error: Exception) -> str:
    """Return in a word what keeps this machine from running a job: none of it is the job's own fault."""
    if isinstance(error, OSError):
        error = disk_error(error)
    return next((word for kind, word in _FAULTS.items() if isinstance(error, kind)), "failed")


_FAULTS: Mapping[type[Exception], str] = {
    NoSpace: "no-room",
    StorageError: "disk",
    IntegrityError: "damaged",
    AuditError: "log",
    httpx.HTTPError: "superlink",
    StrangeSuperLink: "superlink",
    KitRefused: "no-lead",
}


def main(arguments: list[str]) -> None:
    """Run jobs until the process is ended: KIT STATE PORT AUTHORITY PATIENCE."""
    kit, state, port, authority, patience = arguments
    folder = ServerFolder(Path(state))
    stay_here(folder.calls)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for noisy in ("httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    runtime = Runtime(f"127.0.0.1:{port}", folder.secret.read_bytes(), Path(authority).read_bytes())
    mine = NewestKit(read_kit(Path(kit)), folder.path, _log.warning)
    with closing(SuperLink(runtime)) as superlink, desk(folder.record, mine(), app_digest()) as own:
        Runner(folder, mine, superlink, own, float(patience)).serve(lambda: True)


if __name__ == "__main__":
    main(sys.argv[1:])
