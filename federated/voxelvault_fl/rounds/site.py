"""A site's side of a run: bytes in, bytes out. What comes in is checked as hard as what goes out.

The process that calls it belongs to the site. Whatever goes wrong leaves as a fixed word; the detail goes to
the site's own log and nowhere else.
"""

from __future__ import annotations

import hashlib
import math
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from voxelvault.errors import NoSpace
from voxelvault_fl.errors import JobRefused, MessageRefused, SetAside
from voxelvault_fl.jobs.job import Job, SignedJob
from voxelvault_fl.jobs.policy import Approved, Decision, Refused, SitePolicy
from voxelvault_fl.jobs.task import Task, Turn, Weights, weights_digest
from voxelvault_fl.rounds.bounds import clipped, difference, require_alike, require_near
from voxelvault_fl.rounds.broadcast import received
from voxelvault_fl.rounds.messages import SERVER, Message, attested, message_digest, pack, unpack
from voxelvault_fl.rounds.records import Record, aggregate_of, extended, record_of
from voxelvault_fl.rounds.site_state import SiteState
from voxelvault_fl.rounds.strategies import reach
from voxelvault_fl.rounds.transport import Compression

LARGEST = 1 << 30
"""Bytes of weights that a site reads at all."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Who signs: the site itself; and the public keys of server and lead, from the roster."""

    own: Ed25519PrivateKey
    server: Ed25519PublicKey
    lead: Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class Standing:
    """By what a site answers.

    Parameters
    ----------
    keys : Keys
        Who signs.
    policy : SitePolicy
        What is let in, which figures leave, and how rounded: never laxer than the consortium's terms.
    site_metrics : bool
        Whether figures of this site alone may be recorded; those that the server pools leave either way.
    """

    keys: Keys
    policy: SitePolicy
    site_metrics: bool = True


@dataclass(frozen=True, slots=True)
class Hands:
    """What the rules call, given by whoever composes the site.

    Parameters
    ----------
    decide : callable
        Decides on a job; gets what this site did with it by hand.
    task : callable
        Gives the task on the site's data.
    compression : callable
        Gives what makes the job's updates smaller.
    now : callable
        The time, UTC.
    log : callable
        The site's own log: gets what went wrong in full.
    noted : callable
        Told each new entry of a run's record, and may refuse it.
    """

    decide: Callable[[Job, SiteState], Decision]
    task: Callable[[Job], Task]
    compression: Callable[[Job], Compression]
    now: Callable[[], datetime]
    log: Callable[[BaseException], None]
    noted: Callable[[Record], None] = lambda record: None


class SiteSide:
    """Answers a server's messages for one site.

    Parameters
    ----------
    name : str
        The site's.
    folder : Path
        Of all its jobs.
    standing : callable
        Gives by what it answers now: it is asked again with each message.
    hands : Hands
        Everything outside the rules.
    """

    def __init__(self, name: str, folder: Path, standing: Callable[[], Standing], hands: Hands) -> None:
        self.name, self._folder, self._standing, self._hands = name, folder, standing, hands
        self._tasks: dict[str, Task] = {}
        self._seen: dict[str, tuple[int, Weights]] = {}

    def answer(self, request: bytes) -> bytes:
        """Answer a message.

        Raises
        ------
        MessageRefused
            The server didn't sign it, or it is for another site: there is nobody to answer.
        """
        came = unpack(request, self._keys.server, LARGEST)
        if came.sender != SERVER or came.site != self.name or came.answers:
            raise MessageRefused("address", "the message is for somebody else")
        said, weights = self._done(came)
        reply = Message(
            came.kind, came.job, came.round, self.name, came.turn, self.name,
            said, weights, message_digest(request),
        )  # fmt: skip
        return pack(reply, self._keys.own)

    @property
    def _keys(self) -> Keys:
        return self._standing().keys

    @property
    def _policy(self) -> SitePolicy:
        return self._standing().policy

    def _done(self, came: Message) -> tuple[dict[str, Any], Weights]:
        """Do what was asked, or say in one word why not."""
        try:
            state = SiteState(self.state_folder(came.job), came.job)
            state.use(came.turn)
            if came.kind == "offer":
                return self._offered(came, state), {}
            job, _ = self._let_in(state)
            self._continue(came, state, job)
            said, weights = getattr(self, f"_{came.kind}")(came, state, job)
            # Who stopped it while it was computed, or made the policy stricter, is heeded: the result stays.
            _, count = self._let_in(state)
            # One number of people leaves in a job, the one that it was let in with, whatever was measured.
            return {**said, "examples": count}, weights
        except (JobRefused, MessageRefused, SetAside) as refused:
            self._hands.log(refused)
            return {"fault": refused.rule}, {}
        except (NoSpace, OSError, MemoryError) as error:
            self._hands.log(error)
            return {"fault": "no-room"}, {}
        except Exception as error:
            # An exception's text may hold anything, a patient's name too.
            self._hands.log(error)
            return {"fault": "failed"}, {}

    def state_folder(self, job: str) -> Path:
        """Return where a job's state is."""
        if len(job) != 64 or not set(job) <= set("0123456789abcdef"):
            raise MessageRefused("malformed", "a job is named by its digest")
        return self._folder / job

    def _offered(self, came: Message, state: SiteState) -> dict[str, Any]:
        signed = str(came.said.get("job", "")).encode()
        found = SignedJob.loads(signed, self._keys.lead)
        if found.job.digest != came.job:
            raise JobRefused("signature", "the message names another job than it brings")
        state.offer(signed)
        decision = self._decided(found.job, state)
        if isinstance(decision, Refused):
            return {"decision": "refused", "rule": decision.rule}
        if isinstance(decision, Approved):
            return {"decision": "approved", "count": decision.count, "cohort": decision.cohort}
        return {"decision": "waiting"}

    def _decided(self, job: Job, state: SiteState) -> Decision:
        decision = self._hands.decide(job, state)
        if isinstance(decision, Refused):
            state.decide(decision.rule)
        else:
            state.decide("approved" if isinstance(decision, Approved) else "waiting")
        return decision

    def _let_in(self, state: SiteState) -> tuple[Job, int]:
        """Return the job, if it may run here now, and what may be said of how many people it trains on.

        It is decided again each time, so a stop works at once.
        """
        if state.stopped:
            raise JobRefused("stopped", "the job was stopped here")
        signed = state.offered
        if signed is None:
            raise JobRefused("not-offered", "the job was never offered here")
        job = SignedJob.loads(signed, self._keys.lead).job
        decision = self._decided(job, state)
        if isinstance(decision, Refused):
            raise JobRefused(decision.rule, "the site's policy refuses the job")
        if not isinstance(decision, Approved):
            raise JobRefused("not-approved", "nobody here has approved the job yet")
        return job, decision.count

    def _continue(self, came: Message, state: SiteState, job: Job) -> None:
        records = came.said.get("records", [])
        if not isinstance(records, list):
            raise MessageRefused("record", "the message brings no record")
        known = {one.digest for one in state.chain}
        more = [record_of(one) for one in records]
        for one in more:
            if one.digest not in known:
                self._believable(one, job)
        # Nothing is entered in the site's own log before all of it continues what is known.
        fresh = extended(state.chain, more, job.digest)[len(known) :]
        for one in fresh:
            self._hands.noted(one)
        state.follow(fresh)

    def _believable(self, record: Record, job: Job) -> None:
        if record.kind == "start" and record.aggregate != job.initial_weights:
            raise MessageRefused("initial-weights", "the run didn't start from the job's weights")
        if record.kind == "round" and len(record.sites) < job.min_sites:
            raise MessageRefused("sites", "the record has a round of fewer sites than the job allows")
        if not self._standing().site_metrics and _of_single_sites(record):
            raise MessageRefused("metrics", "the record has metrics of single sites, which the terms forbid")
        mine = record.sites.get(self.name)
        if record.kind == "round" and mine is not None and not self._sent(mine, record):
            raise MessageRefused("update", "the record holds an update that this site didn't send")
        if record.kind in ("start", "joined") and mine is not None and not self._joined(mine, record):
            raise MessageRefused("cohort", "the record has a cohort with which this site didn't join")

    def _sent(self, mine: Mapping[str, Any], record: Record) -> bool:
        """Tell whether this site signed what the record says it gave in a round."""
        head = self._signed(mine)
        wanted = {"kind": "train", "job": record.job, "round": record.round, "body": mine.get("update")}
        return all(head[key] == value for key, value in wanted.items())

    def _joined(self, mine: Mapping[str, Any], record: Record) -> bool:
        """Tell whether this site signed the count and the cohort with which the record says it joined."""
        head = self._signed(mine)
        same = all(head["said"].get(key) == mine.get(key) for key in ("count", "cohort"))
        return same and (head["kind"], head["job"]) == ("offer", record.job)

    def _signed(self, mine: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the head of the answer of this site that an entry brings."""
        return attested(b64decode(str(mine.get("attested", ""))), self._keys.own.public_key())

    def _incoming(self, came: Message, state: SiteState, job: Job, round: int) -> Weights:
        seen = self._seen.get(job.digest)
        weights = received(came, seen, round, self._hands.compression(job))
        if weights_digest(weights) != aggregate_of(state.chain, round):
            raise MessageRefused("aggregate", "the weights aren't those that were recorded")
        first = self._task(job).init(job.seed)
        require_alike(weights, first)
        if seen is None and weights_digest(first) == job.initial_weights:
            seen = (0, first)
        if seen is not None:
            apart = abs(round - seen[0])
            require_near(weights, seen[1], apart, reach(job, first))
        self._seen = {job.digest: (round, weights)}
        return weights

    def _task(self, job: Job) -> Task:
        if job.digest not in self._tasks:
            self._tasks = {job.digest: self._hands.task(job)}
        return self._tasks[job.digest]

    def _train(self, came: Message, state: SiteState, job: Job) -> tuple[dict[str, Any], Weights]:
        if not 1 <= came.round <= job.rounds:
            raise MessageRefused("rounds", "the job has fewer rounds than the server asks for")
        weights = self._incoming(came, state, job, came.round - 1)
        if (given := state.given(came.round)) is not None:
            return given
        proximal = float(job.strategy.numbers.get("proximal", 0.0)) if job.strategy.name == "fedprox" else 0.0
        turn = Turn(came.round, turn_seed(job.seed, came.round, self.name), proximal)
        trained = self._task(job).train(weights, turn)
        require_alike(trained.weights, weights)
        if trained.examples < self._policy.min_measured:
            raise JobRefused("cohort-size", "too few people have labels to train on")
        update = clipped(difference(trained.weights, weights), job.update_norm)
        sent = self._hands.compression(job).encode(update)
        # Nobody pools these: they stand in the record as the site's own.
        own = self._told(trained.metrics, trained.examples, job) if self._standing().site_metrics else {}
        said = {"spent": dict(trained.spent), "metrics": own}
        if trained.spent:
            # Asked for the round again, the same answer costs no privacy; training it anew would.
            state.give(came.round, said, sent)
        return said, sent

    def _evaluate(self, came: Message, state: SiteState, job: Job) -> tuple[dict[str, Any], Weights]:
        if not job.evaluate_every:
            raise MessageRefused("evaluate", "the job has no evaluation")
        measured = self._task(job).evaluate(self._incoming(came, state, job, came.round))
        return {"metrics": self._told(measured.metrics, measured.examples, job)}, {}

    def _test(self, came: Message, state: SiteState, job: Job) -> tuple[dict[str, Any], Weights]:
        if not job.evaluate_every:
            raise MessageRefused("evaluate", "the job has no evaluation")
        measured = self._task(job).evaluate(self._incoming(came, state, job, came.round), "test")
        return {"metrics": self._told(measured.metrics, measured.examples, job)}, {}

    def _personalise(self, came: Message, state: SiteState, job: Job) -> tuple[dict[str, Any], Weights]:
        if not job.personalise:
            raise MessageRefused("personalise", "the job asks for no fine-tuning")
        weights, task = self._incoming(came, state, job, came.round), self._task(job)
        turn = Turn(came.round, turn_seed(job.seed, came.round, self.name), steps=job.personalise)
        own = task.train(weights, turn).weights
        require_alike(own, weights)
        state.keep_own(own)
        measured = task.evaluate(own, "test")
        told = measured.metrics if self._standing().site_metrics else {}
        return {"metrics": self._told(told, measured.examples, job)}, {}

    def _follow(self, came: Message, state: SiteState, job: Job) -> tuple[dict[str, Any], Weights]:
        return {"entries": len(state.chain)}, {}

    def _finish(self, came: Message, state: SiteState, job: Job) -> tuple[dict[str, Any], Weights]:
        return {"seen": state.chain[-1].digest if state.chain else ""}, {}

    def _told(self, metrics: Mapping[str, float], examples: int, job: Job) -> dict[str, float]:
        """Return the figures that may leave: none of a few people, none under differential privacy."""
        if job.privacy.mode == "dp-sgd" or examples < self._policy.min_measured:
            return {}
        allowed = {name: metrics[name] for name in self._policy.metrics if name in metrics}
        return {
            name: round(float(value), self._policy.decimals)
            for name, value in allowed.items()
            if math.isfinite(value)
        }


def _of_single_sites(record: Record) -> bool:
    return any(said.get("metrics") or said.get("personal") for said in record.sites.values())


def turn_seed(seed: int, round: int, site: str) -> int:
    """Return the seed of a site in a round: the same wherever the site runs."""
    return int.from_bytes(hashlib.sha256(f"{seed}|{round}|{site}".encode()).digest()[:4], "big")


__all__ = ["LARGEST", "Hands", "Keys", "SiteSide", "Standing", "turn_seed"]
