"""The server's side of a run: offer, rounds, evaluation, the best model. A killed run goes on from here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from voxelvault_fl.consortium import Terms
from voxelvault_fl.errors import JobRefused, SetAside, fixed_word
from voxelvault_fl.jobs.job import SignedJob
from voxelvault_fl.jobs.task import Weights, weights_digest
from voxelvault_fl.jobs.terms import LEAST_POOLED
from voxelvault_fl.rounds.asking import Asking, Given, Parties, most_weights
from voxelvault_fl.rounds.bounds import counted, figures, joined, require_alike, require_norm, spent
from voxelvault_fl.rounds.broadcast import Broadcast
from voxelvault_fl.rounds.messages import Message
from voxelvault_fl.rounds.records import Record
from voxelvault_fl.rounds.run_state import RunState
from voxelvault_fl.rounds.strategies import Contribution, aggregate, pooled
from voxelvault_fl.rounds.transport import Compression

OPEN = ("no-answer", "waiting")
"""Decisions that may still change; who joined or refused isn't asked again."""
Measured = Mapping[str, tuple[int, Mapping[str, float]]]
"""Site to subjects and figures."""


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """How a run ended, or where it stands.

    Parameters
    ----------
    status : str
        ``finished``, ``stopped-early``, or ``stalled`` where too few sites answered: run it again later.
    round : int
        The last one.
    best : int
        The round whose model is the result.
    weights : mapping of str to array
        The result.
    decisions : mapping of str to str
        Site to ``approved``, ``waiting`` or the rule for which it refused; of one that approved and gives
        nothing any more the reason for that, ``stopped`` or ``no-answer`` for example.
    tested : mapping
        Site to ``examples`` and ``metrics`` of the result on its test part, and ``personal`` after
        fine-tuning there.
    measured : bool
        False where figures were asked for and none was told: too few people behind each, or the terms allow
        none. Then `best` is the last round, chosen by nothing.
    """

    status: str
    round: int
    best: int
    weights: Weights
    decisions: Mapping[str, str]
    tested: Mapping[str, Any] = field(default_factory=dict)
    measured: bool = True


class Run:
    """One job's run on the server.

    Parameters
    ----------
    signed : SignedJob
        The job.
    first : mapping of str to array
        Its first weights.
    parties : Parties
        Who takes part.
    state : RunState
        Where the run is kept.
    compression : Compression
        As the job asks.
    noted : callable
        Told each entry of the record once it is on the disk.
    pause : callable
        Waits before a try that follows one with too few answers; tells whether to try.
    terms : callable
        Gives the consortium's terms as they are now; `JobRefused` once the job is outside of them.

    Raises
    ------
    JobRefused
        The first weights aren't the job's.
    """

    def __init__(
        self,
        signed: SignedJob,
        first: Weights,
        parties: Parties,
        state: RunState,
        compression: Compression,
        noted: Callable[[Record], None] = lambda record: None,
        pause: Callable[[int], bool] = lambda tries: tries < 3,
        terms: Callable[[], Terms] = lambda: Terms(minimum_sites=1),
    ) -> None:
        if weights_digest(first) != signed.job.initial_weights:
            raise JobRefused("initial-weights", "the first weights aren't those that the job names")
        self._signed, self._job, self._first, self._parties = signed, signed.job, first, parties
        self._state, self._compression, self._noted, self._pause = state, compression, noted, pause
        self._terms = terms
        self._counts: dict[str, int] = {}
        self._decisions: dict[str, str] = {}
        self._unheard: set[str] = set()
        self._joining: dict[str, dict[str, Any]] = {}
        self._aside: dict[str, str] = {}
        self._broadcast = Broadcast(compression)
        self._asking = Asking(self._job.digest, parties, state, self._broadcast, most_weights(first))

    def go(self) -> Outcome:
        """Run to the end, or until too few sites answer."""
        if not self._started():
            return self._outcome("stalled")
        if self._owed():
            self._evaluate(self._state.last)
        while self._state.last < self._job.rounds and not self._settled():
            if not self._round(self._state.last + 1):
                return self._outcome("stalled")
        status = "finished" if self._state.last == self._job.rounds else "stopped-early"
        if not self._state.of("end"):
            self._end()
        return self._outcome(status)

    def _started(self) -> bool:
        tries = 0
        while True:
            self._offer()
            if len(self._counts) >= self._least:
                return True
            tries += 1
            if not self._pause(tries):
                return False

    def _offer(self) -> None:
        """Offer the job to the sites that neither joined nor refused; enter who joined."""
        settled = {name for name, said in self._decisions.items() if said not in OPEN} - self._unheard
        new = [name for name in self._parties.sites.ready() if name not in settled]
        if not new:
            return
        document = {"job": self._signed.dumps().decode()}
        given = self._asking.ask("offer", max(self._state.last, 0), new, said=document)
        for name, reply in given.replies.items():
            self._decisions[name] = fixed_word(reply.said.get("rule") or reply.said.get("decision"))
            if self._decisions[name] == "approved":
                self._join(name, reply.said, given.signed[name])
        # Why an offer came to nothing is said, and it is made again.
        self._unheard = set(given.aside)
        self._decisions |= given.aside
        if len(self._counts) >= self._least:
            self._enter(given)

    @property
    def _least(self) -> int:
        """Sites that a round needs: what the job says, and never fewer than the terms do."""
        return max(self._job.min_sites, self._terms().minimum_sites)

    def _join(self, name: str, said: Mapping[str, Any], signed: str) -> None:
        try:
            count, cohort = joined(said)
        except SetAside as refused:
            self._decisions[name] = refused.rule
            return
        if len(self._counts) >= self._job.max_sites:
            self._decisions[name] = "no-room"
            return
        self._counts[name] = count
        self._joining[name] = {"count": count, "cohort": cohort, "attested": signed}

    def _enter(self, given: Given) -> None:
        if self._state.last < 0:
            self._state.keep(0, self._first, {})
            self._note("start", 0, self._job.initial_weights, sites=self._joining, given=given)
        elif fresh := {name: said for name, said in self._joining.items() if not self._known(name, said)}:
            self._note("joined", self._state.last, self._aggregate(), sites=fresh, given=given)
        self._joining = {}

    def _known(self, name: str, said: Mapping[str, Any]) -> bool:
        told = [one.sites[name] for one in self._state.of("start", "joined") if name in one.sites]
        return any(all(one[key] == said[key] for key in ("count", "cohort")) for one in told)

    def _owed(self) -> bool:
        """Tell whether the server was killed between a round and its evaluation."""
        last = self._state.last
        return self._job.evaluates(last) and all(one.round != last for one in self._state.of("evaluation"))

    def _round(self, number: int) -> bool:
        weights, tries = self._state.weights(number - 1), 0
        while True:
            self._offer()
            given = self._asking.ask("train", number, self._joined(), weights)
            good = self._checked(given, weights)
            self._aside = given.aside
            if len(good) >= self._least:
                break
            self._tried(number - 1, given)
            tries += 1
            if not self._pause(tries):
                return False
        exact, moments = aggregate(self._job.strategy, weights, good, self._state.moments(number - 1))
        made, lost = self._broadcast.model(number, weights, exact, self._state.lost(number - 1))
        self._state.keep(number, made, moments, lost)
        self._note("round", number, weights_digest(made), sites=self._gave(given, good), given=given)
        if self._job.evaluates(number):
            self._evaluate(number)
        return True

    def _tried(self, last: int, given: Given) -> None:
        """Enter a try that too few answered, once for the same reasons.

        A job may rest for weeks, and sites are sent the whole record with each message that they missed.
        """
        before = self._state.chain[-1]
        if before.kind != "attempt" or dict(before.aside) != given.aside:
            self._note("attempt", last, self._aggregate(), given=given)

    def _joined(self) -> list[str]:
        return [name for name in self._parties.sites.ready() if name in self._counts]

    def _checked(self, given: Given, weights: Weights) -> list[Contribution]:
        """Return the updates that may count; the others are set aside with the rule that they broke."""
        good = []
        for name, reply in given.replies.items():
            try:
                examples = counted(reply.said.get("examples"), self._counts[name])
                spent(reply.said.get("spent", {}))
                self._require_pooled(reply)
                update = self._whole(reply.weights, weights)
                good.append(Contribution(name, update, examples))
            except SetAside as refused:
                given.aside[name] = refused.rule
        return good

    def _require_pooled(self, reply: Message) -> None:
        # What an update says of itself stands in everybody's record, signed.
        if reply.said.get("metrics") and not self._terms().site_metrics:
            raise SetAside("metrics", "the update brings metrics of one site, which the terms don't allow")

    def _whole(self, sent: Weights, like: Weights) -> Weights:
        update = self._compression.decode(sent, like)
        require_alike(update, like)
        require_norm(update, self._job.update_norm)
        return update

    def _gave(self, given: Given, good: Sequence[Contribution]) -> dict[str, Any]:
        return {
            one.site: {
                "update": given.body[one.site],
                "examples": one.examples,
                "bytes": given.size[one.site],
                "spent": given.replies[one.site].said.get("spent", {}),
                "attested": given.signed[one.site],
            }
            for one in good
        }

    def _evaluate(self, number: int) -> None:
        given = self._asking.ask("evaluate", number, self._joined(), self._state.weights(number))
        measured = self._figures(given)
        self._note(
            "evaluation", number, self._aggregate(),
            sites=self._shown(measured), given=given, metrics=self._pooled(measured),
        )  # fmt: skip

    def _shown(self, measured: Measured) -> dict[str, Any]:
        """Return what the record says of each site: its metrics only where the terms let it."""
        told = self._terms().site_metrics
        return {
            name: {"examples": n, "metrics": dict(said) if told else {}}
            for name, (n, said) in measured.items()
        }

    def _pooled(self, measured: Measured) -> dict[str, float]:
        single = len(measured) < LEAST_POOLED and not self._terms().site_metrics
        return {} if single else pooled(measured)

    def _figures(self, given: Given) -> Measured:
        found: dict[str, tuple[int, Mapping[str, float]]] = {}
        for name, reply in given.replies.items():
            try:
                examples = counted(reply.said.get("examples"), self._counts[name])
            except SetAside as refused:
                given.aside[name] = refused.rule
                continue
            found[name] = examples, figures(reply.said.get("metrics"))
        return found

    def _scores(self) -> list[tuple[float, int]]:
        sign = -1.0 if self._job.metric == "loss" else 1.0
        told = [(one.metrics.get(self._job.metric), one.round) for one in self._state.of("evaluation")]
        return [(sign * value, number) for value, number in told if value is not None]

    def _settled(self) -> bool:
        """Tell whether the last evaluations brought nothing better, as often as the job is patient."""
        scores = [score for score, _ in self._scores()]
        patience = self._job.patience
        return bool(
            patience and len(scores) > patience and max(scores[-patience:]) <= max(scores[:-patience])
        )

    @property
    def best(self) -> int:
        """The round with the best figure, of equals that with the least loss; the last without figures."""
        losses = {one.round: one.metrics.get("loss", 0.0) for one in self._state.of("evaluation")}
        scores = self._scores()
        if not scores:
            return max(self._state.last, 0)
        return max(scores, key=lambda one: (one[0], -losses[one[1]], -one[1]))[1]

    def _end(self) -> None:
        """Measure the best model on what chose nothing, fine-tune it at the sites, enter the end, tell it."""
        best, weights = self.best, self._state.weights(self.best)
        sites: dict[str, Any] = {}
        given = Given()
        measured: Measured = {}
        if self._job.evaluate_every:
            given = self._asking.ask("test", best, self._joined(), weights)
            measured = self._figures(given)
            sites = self._shown(measured)
        if self._job.personalise:
            tuned = self._figures(self._asking.ask("personalise", best, self._joined(), weights))
            for name, said in self._shown(tuned).items():
                sites.setdefault(name, {})["personal"] = said["metrics"]
        told = self._pooled(measured)
        self._note("end", best, weights_digest(weights), sites=sites, given=given, metrics=told)
        self._asking.ask("finish", best, self._joined())

    def _aggregate(self) -> str:
        return self._state.of("start", "round")[-1].aggregate

    def _outcome(self, status: str) -> Outcome:
        weights = self._state.weights(self.best) if self._state.last >= 0 else self._first
        ends = self._state.of("end")
        tested = ends[-1].sites if ends else {}
        measured = bool(self._scores()) or not self._job.evaluate_every
        last = max(self._state.last, 0)
        return Outcome(status, last, self.best, weights, self.decisions, tested, measured)

    @property
    def decisions(self) -> dict[str, str]:
        """What each site said last: its decision, or why it gave nothing to the last round."""
        ready = self._parties.sites.ready()
        gone = {name: OPEN[0] for name in self._counts if name not in ready}
        return {**self._decisions, **self._aside, **gone}

    def _note(
        self,
        kind: str,
        number: int,
        aggregate: str,
        *,
        sites: Mapping[str, Any] | None = None,
        given: Given | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        came = given or Given()
        record = Record(
            kind, self._job.digest, number, self._state.head, aggregate,
            sites or {}, dict(came.aside), metrics or {}, came.sent, came.received,
        )  # fmt: skip
        self._state.add(record)
        self._noted(record)


__all__ = ["Outcome", "Run"]
