"""What a party attests of a run: that its log holds the run's last entry, and so all before it.

Every entry of a run names the one before by its digest. So one entry, proved to be in a log, commits its
owner to the whole chain; and the log's checkpoint, cosigned by the others, to have said nothing else.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from voxelvault.audit.checkpoint import NoteKey
from voxelvault.audit.cosignature import WitnessKey, cosigned
from voxelvault.audit.events import Kind
from voxelvault.audit.leaf import Entry
from voxelvault.audit.proof import verify_proof
from voxelvault.errors import IntegrityError
from voxelvault_fl.jobs.strict import canonical
from voxelvault_fl.record.logbook import Logbook
from voxelvault_fl.record.office import Office
from voxelvault_fl.rounds.records import Record

_DOMAIN = b"voxelvault federated attestation v1\n"


@dataclass(frozen=True, slots=True)
class Attested:
    """What a party's attestation proves.

    Parameters
    ----------
    party : str
        Who.
    record, app : str
        Digests of the run's last entry that it holds, and of the code that it ran.
    logged : datetime
        When that entry was made, by its own clock, UTC.
    cosigned : tuple of str
        Parties that cosigned its log with that entry in it.
    """

    party: str
    record: str
    app: str
    logged: datetime
    cosigned: tuple[str, ...]


def attest(office: Office, logbook: Logbook, chain: Sequence[Record]) -> str | None:
    """Return what a party attests of a run.

    Parameters
    ----------
    office : Office
        The party's.
    logbook : Logbook
        Of the log that the office has cosigned.
    chain : sequence of Record
        The run's record as the party holds it.

    Returns
    -------
    str or None
        JSON, signed; None while the last entry is not in the log, or nobody has cosigned it.

    Raises
    ------
    IntegrityError
        The log is damaged.
    """
    entry = logbook.find(chain[-1]) if chain else None
    note = None if entry is None else office.note(entry.index)
    if entry is None or note is None:
        return None
    said = {
        "party": office.name,
        "job": chain[-1].job,
        "log": str(office.log.key),
        "proof": office.log.prove_at(entry.index, note),
    }
    signature = b64encode(office.key.sign(_DOMAIN + canonical(said))).decode()
    return canonical({**said, "signature": signature}).decode()


def check_attestation(
    text: str, party: str, key: Ed25519PublicKey, job: str, witnesses: Mapping[str, WitnessKey]
) -> Attested:
    """Check an attestation with nothing but the roster's keys.

    Parameters
    ----------
    text : str
        As `attest` returned it.
    party : str
        Whose it must be.
    key : Ed25519PublicKey
        The party's signing key.
    job : str
        Digest of the job.
    witnesses : mapping of str to WitnessKey
        The other parties' keys.

    Raises
    ------
    IntegrityError
        It isn't that party's, is of another job, or a proof doesn't hold.
    """
    try:
        said = dict(json.loads(text))
        signature = b64decode(said.pop("signature"), validate=True)
        key.verify(signature, _DOMAIN + canonical(said))
        told, of, proof, log = str(said["party"]), str(said["job"]), dict(said["proof"]), str(said["log"])
    except (ValueError, KeyError, TypeError, InvalidSignature, RecursionError):
        raise IntegrityError("an attestation isn't signed by the party that it is of") from None
    if told != party or of != job:
        raise IntegrityError("an attestation is of another party or job")
    entry = verify_proof(proof, NoteKey.parse(log))
    _require(entry, job)
    by = cosigned(str(proof["checkpoint"]), witnesses.values())
    names = tuple(name for name, witness in witnesses.items() if witness in by and name != party)
    digests: Mapping[str, Any] = entry.digests
    return Attested(party, str(digests["record"]), str(digests.get("app", "")), entry.when, names)


def _require(entry: Entry, job: str) -> None:
    ours = entry.kind == Kind.FEDERATED_ENTERED and "record" in entry.digests
    if not ours or entry.digests.get("job") != job:
        raise IntegrityError("an attestation proves an entry that is none of this run")


__all__ = ["Attested", "attest", "check_attestation"]
