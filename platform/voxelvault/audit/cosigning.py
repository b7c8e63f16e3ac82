"""Having one's log cosigned by witnesses, and saying later what they attest.

What a witness cosigned is kept beside the log, a document for each: `audit/cosigned/<key>`.

References
----------
C2SP tlog-witness: https://c2sp.org/tlog-witness
"""

from __future__ import annotations

import hashlib
import http.client
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

from voxelvault.audit.checkpoint import Checkpoint, encode64, open_checkpoint
from voxelvault.audit.cosignature import WitnessKey, cosigned
from voxelvault.audit.log import AuditLog
from voxelvault.audit.trust import TrustPolicy
from voxelvault.audit.witness import Answer
from voxelvault.errors import (
    IntegrityError,
    ObjectMissing,
    PolicyDenied,
    RollbackDetected,
    Unanswered,
    UsageError,
    VoxelVaultError,
)
from voxelvault.model import ObjectStore

Post = Callable[[bytes], Answer]
"""Hands a request to a witness and returns its answer; `Unanswered` when there is none."""

_ANSWER_LIMIT = 1 << 16
_SECONDS = 20.0
_TRIES = 4


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent to a witness.

    Parameters
    ----------
    note : str
        The log's signed checkpoint.
    body : bytes
        Of `add-checkpoint`.
    """

    note: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Attested:
    """What one witness attests of a log.

    Parameters
    ----------
    size : int
        Entries that it found to continue all that it had seen.
    when : datetime
        As its clock said, UTC.
    """

    size: int
    when: datetime


@dataclass(frozen=True)
class CosignReport:
    """What came of asking several witnesses.

    Parameters
    ----------
    size : int
        Entries of the log.
    attested : mapping of str to Attested
        By the witness's name in the policy.
    failed : mapping of str to str
        Why others did not.
    enough : bool
        The quorum of the policy was reached.
    """

    size: int
    attested: Mapping[str, Attested]
    failed: Mapping[str, str]
    enough: bool


class Cosigning:
    """A log's dealings with its witnesses.

    Parameters
    ----------
    log : AuditLog
        The log.
    objects : ObjectStore
        Where it lies; what was cosigned is kept there, too.
    """

    def __init__(self, log: AuditLog, objects: ObjectStore) -> None:
        self._log, self._objects = log, objects

    def request(self, old: int) -> Request:
        """Return a request with the log's newest checkpoint.

        Parameters
        ----------
        old : int
            Entries that the witness cosigned last.

        Raises
        ------
        RollbackDetected
            The log has fewer.
        """
        if old > self._log.size:
            raise RollbackDetected(
                f"a witness cosigned {old} entries of this log and it has {self._log.size}: an older copy "
                "was put back; restore the newer one"
            )
        proof = self._log.consistency(old) if old else {"hashes": [], "checkpoint": self._log.checkpoint()}
        lines = "".join(f"{encode64(bytes.fromhex(one))}\n" for one in proof["hashes"])
        note = str(proof["checkpoint"])
        return Request(note, f"old {old}\n{lines}\n{note}".encode())

    def ask(self, witness: WitnessKey, post: Post) -> Attested:
        """Have a witness cosign the log as it is now, and keep what it says.

        Parameters
        ----------
        witness : WitnessKey
            Whose cosignature counts.
        post : callable
            Takes a request there.

        Raises
        ------
        RollbackDetected
            The witness has cosigned another history of this log, or a longer one.
        PolicyDenied
            It doesn't know the log or its key.
        IntegrityError
            It answers nonsense.
        Unanswered
            It doesn't answer, or not now.
        """
        old = self.size_of(witness)
        for _ in range(_TRIES):
            request = self.request(old)
            answer = post(request.body)
            if answer.status != 409:
                return self.keep(witness, request.note, answer)
            old = _size(answer.body)
        raise Unanswered("a witness answers others' requests all the time; ask it again later")

    def keep(self, witness: WitnessKey, note: str, answer: Answer) -> Attested:
        """Verify an answer and keep the cosignature; `ask` says what is raised."""
        if answer.status == 422:
            raise RollbackDetected(
                "a witness refuses this log: it cosigned another history of it; restore the true one, and "
                "keep both checkpoints as proof"
            )
        if answer.status in (403, 404):
            raise PolicyDenied(
                "a witness doesn't know this log; give its keeper the log's key: `audit checkpoint --json`"
            )
        if answer.status != 200:
            raise Unanswered(f"a witness answers with status {int(answer.status)}; ask it again later")
        signed = note + answer.body
        when = cosigned(signed, [witness]).get(witness)
        if when is None:
            raise IntegrityError("a witness answers under another key; correct its key in the policy")
        self._objects.replace(_place(witness), signed.encode())
        return _attested(open_checkpoint(note, self._log.key), when)

    def size_of(self, witness: WitnessKey) -> int:
        """Return how many entries a witness attests by what is kept here; 0 where that is nothing."""
        found = self.attested(witness)
        return 0 if found is None else found.size

    def note_of(self, witness: WitnessKey) -> str | None:
        """Return the kept checkpoint with the witness's cosignature, unverified; None if there is none."""
        try:
            return self._objects.get(_place(witness)).decode("utf-8", "replace")
        except ObjectMissing:
            return None

    def attested(self, witness: WitnessKey) -> Attested | None:
        """Return what a witness attests of the log as it is, or None.

        Raises
        ------
        RollbackDetected
            The log does not continue what the witness cosigned.
        IntegrityError
            What is kept is not the log's, or not the witness's.
        """
        note = self.note_of(witness)
        if note is None:
            return None
        when = cosigned(note, [witness]).get(witness)
        if when is None:
            raise IntegrityError("a kept cosignature is not the witness's; ask it again with `audit cosign`")
        return _attested(self._log.extends(note), when)

    def gather(self, policy: TrustPolicy, poster: Callable[[str], Post]) -> CosignReport:
        """Ask all witnesses of a policy that have a URL.

        Parameters
        ----------
        policy : TrustPolicy
            Names witnesses and quorum.
        poster : callable
            Makes a `Post` of a witness's URL: `over_http`.

        Raises
        ------
        RollbackDetected
            A witness cosigned another history; what the others say counts for nothing then.
        """
        attested, failed = dict[str, Attested](), dict[str, str]()
        for name, witness in policy.witnesses.items():
            if witness.url is None:
                continue
            try:
                attested[name] = self.ask(witness.key, poster(witness.url))
            except RollbackDetected:
                raise
            except VoxelVaultError as error:
                failed[name] = str(error)
        return CosignReport(self._log.size, attested, failed, policy.satisfied(attested))

    def proved(self, policy: TrustPolicy) -> tuple[int, Mapping[str, Attested]]:
        """Return how many entries the policy's quorum attests, and what each witness does.

        A witness of more entries attests the fewer, too: the log is compared with each.

        Raises
        ------
        RollbackDetected, IntegrityError
            As `attested`.
        """
        found = {name: self.attested(witness.key) for name, witness in policy.witnesses.items()}
        given = {name: one for name, one in found.items() if one is not None}
        sizes = sorted({one.size for one in given.values()}, reverse=True)
        for size in sizes:
            if policy.satisfied([name for name, one in given.items() if one.size >= size]):
                return size, given
        return 0, given


def over_http(url: str) -> Post:
    """Return what takes requests to a witness.

    Parameters
    ----------
    url : str
        Its submission prefix, http or https.

    Raises
    ------
    UsageError
        It is none.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
        raise UsageError("a witness's URL is http://HOST:PORT/PATH or https://…; correct the policy")
    made = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    path = f"{parts.path.rstrip('/')}/add-checkpoint"

    def post(body: bytes) -> Answer:
        server = made(str(parts.hostname), parts.port, timeout=_SECONDS)
        try:
            server.request("POST", path, body, {"Content-Type": "text/plain; charset=utf-8"})
            response = server.getresponse()
            said = response.read(_ANSWER_LIMIT).decode("utf-8", "replace")
            return Answer(response.status, said, response.headers.get_content_type())
        except (OSError, http.client.HTTPException):
            raise Unanswered("a witness doesn't answer; look at its URL, or ask again later") from None
        finally:
            server.close()

    return post


def _size(body: str) -> int:
    if not re.fullmatch(r"(0|[1-9][0-9]{0,18})\n?", body, re.ASCII):
        raise IntegrityError("a witness answers no size where one is due; look at its URL")
    return int(body)


def _attested(checkpoint: Checkpoint, when: int) -> Attested:
    # A clock beyond the year 9999 is as wrong as one at its end.
    return Attested(checkpoint.size, datetime.fromtimestamp(min(when, 253402300799), UTC))


def _place(witness: WitnessKey) -> str:
    return f"audit/cosigned/{hashlib.sha256(str(witness).encode()).hexdigest()}"


__all__ = ["Attested", "CosignReport", "Cosigning", "Post", "Request", "over_http"]
