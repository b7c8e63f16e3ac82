"""Where a model comes from, as one JSON document that goes with it; and what that proves.

It proves who attested what: which sites, which digests of cohorts, rounds, code and terms. It doesn't prove
that anybody computed honestly, nor that a cohort was what its digest says.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from voxelvault.errors import IntegrityError, UsageError
from voxelvault_fl.errors import FederatedError
from voxelvault_fl.jobs.job import Job, SignedJob
from voxelvault_fl.jobs.strict import canonical, plain
from voxelvault_fl.jobs.task import Weights, weights_digest
from voxelvault_fl.jobs.terms import require_within
from voxelvault_fl.provisioning.roster import Roster, open_roster
from voxelvault_fl.record.attestation import Attested, check_attestation
from voxelvault_fl.record.office import witness_key
from voxelvault_fl.rounds.messages import SERVER, attested
from voxelvault_fl.rounds.records import Record, extended, record_of

FORMAT = 1
HONESTY = (
    "this proves what each site attested, not that it computed honestly, nor that a cohort is "
    "what its digest says"
)


@dataclass(frozen=True)
class Signed:
    """The roster as the consortium's authority signed it."""

    content: bytes
    signature: bytes
    authority: x509.Certificate

    def open(self) -> Roster:
        """Check it; `RosterForged` if another signed it."""
        return open_roster(self.content, self.signature, self.authority)


@dataclass(frozen=True)
class SiteProof:
    """What is known of one site.

    Parameters
    ----------
    rounds : tuple of int
        Rounds that hold an update which this site signed.
    cohort : str
        Digest of its cohort, signed by the site when it joined.
    count : int
        Subjects, as rounded by the site.
    spent : mapping
        What privacy cost there by the last round, as its accountant said.
    attested : Attested or None
        Its log's proof of the whole record, if it gave one.
    """

    rounds: tuple[int, ...] = ()
    cohort: str = ""
    count: int = 0
    spent: Mapping[str, Any] = field(default_factory=dict)
    attested: Attested | None = None


@dataclass(frozen=True)
class Proved:
    """What a model's provenance proves.

    Parameters
    ----------
    job : Job
        As the lead signed it: terms, strategy, privacy, code that was asked for.
    round : int
        Whose model it is; 0 for the first weights.
    last : int
        Last round of the run.
    weights : str
        Digest of the model's weights.
    sites : mapping of str to SiteProof
        All that joined.
    server : Attested or None
        The server's own.
    authority : str
        SHA-256 of the authority's certificate: compare it with the one in your kit.
    """

    job: Job
    round: int
    last: int
    weights: str
    sites: Mapping[str, SiteProof]
    server: Attested | None
    authority: str

    @property
    def whole(self) -> bool:
        """Whether server and all sites that trained attest the record, in logs that others cosigned.

        A site that attests other code than the job's isn't counted among them.
        """
        trained = [one.attested for one in self.sites.values() if one.rounds]
        return all(one is not None and one.cosigned for one in [*trained, self.server]) and all(
            one is not None and one.app == self.job.app_digest for one in trained
        )


def document(
    roster: Signed, job: SignedJob, chain: Sequence[Record], round: int, attestations: Mapping[str, str]
) -> bytes:
    """Return the provenance of a round's model as JSON.

    Parameters
    ----------
    roster : Signed
        Of the consortium.
    job : SignedJob
        By the lead.
    chain : sequence of Record
        The run's whole record.
    round : int
        Whose model it is: any round, not only the best one.
    attestations : mapping of str to str
        By party; see `attest`.
    """
    said = {
        "format": FORMAT,
        "roster": b64encode(roster.content).decode(),
        "roster_signature": b64encode(roster.signature).decode(),
        "authority": roster.authority.public_bytes(Encoding.PEM).decode(),
        "job": job.dumps().decode(),
        "chain": [plain(one) for one in chain],
        "round": round,
        "attestations": dict(attestations),
    }
    return canonical(said)


def verify(data: bytes, weights: Weights, authority: bytes | None = None) -> Proved:
    """Check a model's provenance.

    Parameters
    ----------
    data : bytes
        As `document` returned it.
    weights : mapping of str to array
        The model.
    authority : bytes, optional
        The consortium's certificate, PEM, from one's own kit. Without it, compare `Proved.authority`.

    Raises
    ------
    IntegrityError
        Something is not what was signed, the model is another one, or of another authority.
    UsageError
        `authority` is no certificate.
    """
    try:
        said = dict(json.loads(data))
        if said["format"] != FORMAT:
            raise ValueError
        told = x509.load_pem_x509_certificate(str(said["authority"]).encode())
        signed = Signed(b64decode(said["roster"]), b64decode(said["roster_signature"]), told)
        number, letters = int(said["round"]), {str(k): str(v) for k, v in said["attestations"].items()}
        records = [record_of(one) for one in said["chain"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, FederatedError):
        raise IntegrityError("the model's provenance can't be read; ask its maker for another copy") from None
    if authority is not None and _certificate(authority) != told:
        raise IntegrityError(
            "the authority given is not the one of this model; take ca.pem of a kit of its consortium"
        )
    roster = signed.open()
    job, chain = _job(str(said["job"]), roster, records)
    made = [one.aggregate for one in chain if one.kind in ("start", "round") and one.round == number]
    if made != [weights_digest(weights)]:
        raise IntegrityError("the model's weights aren't those of the round that its provenance names")
    sites = _sites(chain, roster, job)
    parties = _attested(letters, roster, job, chain)
    return Proved(
        job=job,
        round=number,
        last=max(one.round for one in chain),
        weights=weights_digest(weights),
        sites={name: replace(one, attested=parties.get(name)) for name, one in sites.items()},
        server=parties.get(SERVER),
        authority=told.fingerprint(hashes.SHA256()).hex(),
    )


def _certificate(authority: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(authority)
    except ValueError:
        raise UsageError("the authority is no certificate; give ca.pem of your own kit") from None


def _job(text: str, roster: Roster, records: Sequence[Record]) -> tuple[Job, tuple[Record, ...]]:
    leads = roster.of_role("lead")
    try:
        job = SignedJob.loads(text.encode(), leads[0].verifying_key()).job
        chain = extended((), records, job.digest)
        if chain[0].kind != "start" or chain[0].aggregate != job.initial_weights:
            raise IndexError
    except (FederatedError, IndexError):
        raise IntegrityError("the run's record isn't that of a job that the lead signed") from None
    try:
        require_within(job, roster.consortium)
    except FederatedError:
        raise IntegrityError("the job is outside of the terms that the roster has") from None
    if any(one.kind == "round" and len(one.sites) < job.min_sites for one in chain):
        raise IntegrityError("the run's record has a round of fewer sites than the job allows")
    return job, chain


def _sites(chain: Sequence[Record], roster: Roster, job: Job) -> dict[str, SiteProof]:
    found: dict[str, dict[str, Any]] = {}
    for one in chain:
        for name, said in one.sites.items():
            if one.kind in ("start", "joined"):
                head = _head(said, name, roster, one, {"kind": "offer"})
                found.setdefault(name, {"rounds": ()})
                found[name] |= {"cohort": str(head["said"]["cohort"]), "count": int(head["said"]["count"])}
            elif one.kind == "round":
                update = {"kind": "train", "round": one.round, "body": said.get("update")}
                head = _head(said, name, roster, one, update)
                if name not in found:
                    raise IntegrityError("the run's record has an update of a site that never joined")
                mine = found[name]
                mine["rounds"] = (*mine["rounds"], one.round)
                mine["spent"] = dict(head["said"].get("spent", {}))
    return {name: SiteProof(**said) for name, said in found.items()}


def _head(
    said: Mapping[str, Any], name: str, roster: Roster, record: Record, wanted: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Return the head of the message by which a site gave what an entry says that it gave."""
    try:
        head = attested(b64decode(said["attested"]), roster.party(name).verifying_key())
        must = {"job": record.job, "site": name, "sender": name, **wanted}
        if any(head[key] != value for key, value in must.items()):
            raise ValueError
        joins = record.kind in ("start", "joined")
        if joins and any(head["said"][key] != said[key] for key in ("cohort", "count")):
            raise ValueError
    except (FederatedError, ValueError, KeyError, TypeError):
        raise IntegrityError("the run's record holds what a site didn't sign") from None
    return head


def _attested(
    letters: Mapping[str, str], roster: Roster, job: Job, chain: Sequence[Record]
) -> dict[str, Attested]:
    keys = {one.name: one.verifying_key() for one in roster.parties if one.role in ("server", "site")}
    witnesses = {
        name: witness_key(roster.consortium.id, name, key.public_bytes_raw()) for name, key in keys.items()
    }
    found = {}
    for name, text in letters.items():
        if name not in keys:
            raise IntegrityError("an attestation is of nobody in the roster")
        others = {other: key for other, key in witnesses.items() if other != name}
        found[name] = check_attestation(text, name, keys[name], job.digest, others)
        if found[name].record != chain[-1].digest:
            raise IntegrityError("a party attests another record of the run than the model's provenance has")
    return found


def believed(letters: Mapping[str, str], roster: Roster, job: Job, chain: Sequence[Record]) -> dict[str, str]:
    """Return the attestations that prove themselves: a bad one must not spoil a document for all."""
    good = {}
    for name, text in letters.items():
        with suppress(IntegrityError):
            _attested({name: text}, roster, job, chain)
            good[name] = text
    return good


__all__ = ["FORMAT", "HONESTY", "Proved", "Signed", "SiteProof", "believed", "document", "verify"]
