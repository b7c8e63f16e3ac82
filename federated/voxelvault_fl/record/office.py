"""Parties cosign each other's logs by mail that goes along with rounds: a site opens no port and calls none.

Each party is a witness (C2SP tlog-witness) of all others. A site has one correspondent, the server, who
passes its mail on. What passes is signed checkpoints and cosignatures, which mean something to whoever has
the roster, however they came.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from voxelvault.audit.checkpoint import NoteKey
from voxelvault.audit.cosignature import WitnessKey
from voxelvault.audit.cosigning import Cosigning
from voxelvault.audit.log import AuditLog
from voxelvault.audit.witness import Answer, Witness
from voxelvault.errors import IntegrityError, VoxelVaultError
from voxelvault.model import ObjectStore
from voxelvault_fl.errors import JobRefused, MessageRefused
from voxelvault_fl.jobs.strict import canonical, made, plain

MAGIC = b"vvmail1\n"
"""What a bag of mail begins with, so that it isn't taken for a message of a round."""
MOST_BYTES, MOST_LETTERS = 8 << 20, 4096
KINDS = ("key", "request", "answer", "ask", "attestation")
_DOMAIN = b"voxelvault federated log key v1\n"
_SIZE = re.compile(r"(0|[1-9][0-9]{0,18})\n?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Letter:
    """One letter.

    Parameters
    ----------
    sender, to : str
        Parties of the roster.
    kind : str
        ``key`` (of the sender's log, signed by the sender), ``request`` and ``answer`` of C2SP tlog-witness,
        ``ask`` for what is attested of a job, and the ``attestation``.
    body : str
        A key, a request, an answer, a job's digest, or an attestation.
    status : int
        Of an answer.
    """

    sender: str
    to: str
    kind: str
    body: str
    status: int = 0


def pack_letters(letters: Iterable[Letter]) -> bytes:
    """Return a bag of letters."""
    return MAGIC + canonical([plain(one) for one in letters])


def unpack_letters(data: bytes) -> list[Letter]:
    """Return the letters of a bag.

    Raises
    ------
    MessageRefused
        It is none.
    """
    try:
        if not data.startswith(MAGIC) or len(data) > MOST_BYTES:
            raise ValueError
        said = json.loads(data[len(MAGIC) :])
        # Only what can be written again as it came is passed on: half a letter of Unicode can't.
        if not isinstance(said, list) or len(said) > MOST_LETTERS or canonical(said) != data[len(MAGIC) :]:
            raise ValueError
        letters = [made(Letter, one, "letter") for one in said]
    except (ValueError, RecursionError, JobRefused):
        raise MessageRefused("malformed", "this is no bag of letters") from None
    return [one for one in letters if one.kind in KINDS]


def witness_key(consortium: str, party: str, key: bytes) -> WitnessKey:
    """Return the key that a party cosigns with: its signing key, in the roster, under a name of its own."""
    return WitnessKey(f"voxelvault.federated/{consortium}/{party}", key)


@dataclass
class Office:
    """A party's own letters.

    Parameters
    ----------
    name, consortium : str
        The party's, as in the roster.
    key : Ed25519PrivateKey
        Its signing key.
    log : AuditLog
        Its log.
    objects : ObjectStore
        Where its log lies.
    kept : ObjectStore
        Where it keeps what it cosigned of others, and their logs' keys.
    peers : mapping of str to bytes
        Signing keys of the others that cosign, from the roster, 32 bytes each.

    Attributes
    ----------
    alarms : list of VoxelVaultError
        What went wrong, a fork of a log above all; for the party's own log.
    """

    name: str
    consortium: str
    key: Ed25519PrivateKey
    log: AuditLog
    objects: ObjectStore
    kept: ObjectStore
    peers: Mapping[str, bytes]
    alarms: list[VoxelVaultError] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._cosigning = Cosigning(self.log, self.objects)
        self._asked: dict[str, str] = {}

    @property
    def own(self) -> WitnessKey:
        """The key that this party cosigns with."""
        return witness_key(self.consortium, self.name, self.key.public_key().public_bytes_raw())

    @property
    def witnesses(self) -> dict[str, WitnessKey]:
        """The keys that cosign this party's log."""
        return {name: witness_key(self.consortium, name, key) for name, key in self.peers.items()}

    def letters(self) -> list[Letter]:
        """Return a request to each peer that hasn't cosigned the log as it is."""
        return [one for name in self.peers for one in self._requests(name)]

    def _requests(self, name: str) -> list[Letter]:
        try:
            attested = self._cosigning.size_of(self.witnesses[name])
            return [] if attested == self.log.size else self._request(name, attested)
        except VoxelVaultError as error:
            self.alarms.append(error)
            return []

    def _request(self, name: str, old: int) -> list[Letter]:
        request = self._cosigning.request(old)
        self._asked[name] = request.note
        return [
            Letter(self.name, name, "key", self.key_told()),
            Letter(self.name, name, "request", request.body.decode()),
        ]

    def key_told(self) -> str:
        """Return the key of this party's log, signed: whoever passes it on can't tell another."""
        told = str(self.log.key)
        return f"{told}\n{b64encode(self.key.sign(_key_of(self.name, told))).decode()}"

    def receive(self, letters: Sequence[Letter]) -> list[Letter]:
        """Read letters to this party, and return what it answers."""
        answers = []
        for one in letters:
            if one.to != self.name or one.sender not in self.peers:
                continue
            try:
                answers += self._read(one)
            except VoxelVaultError as error:
                self.alarms.append(error)
        return answers

    def _read(self, letter: Letter) -> list[Letter]:
        if letter.kind == "key":
            self._keep_key(letter)
        elif letter.kind == "request":
            answer = self._witness(letter.sender).add_checkpoint(letter.body.encode())
            return [Letter(self.name, letter.sender, "answer", answer.body, answer.status)]
        elif letter.kind == "answer":
            return self._answered(letter)
        return []

    def _answered(self, letter: Letter) -> list[Letter]:
        note = self._asked.pop(letter.sender, None)
        if note is None:
            return []
        if letter.status == 409 and _SIZE.fullmatch(letter.body):
            return self._request(letter.sender, int(letter.body))
        self._cosigning.keep(self.witnesses[letter.sender], note, Answer(letter.status, letter.body))
        return []

    def _keep_key(self, letter: Letter) -> None:
        """Keep the key of a peer's log: the first that it tells; another one later is a log begun anew."""
        text, _, signature = letter.body.partition("\n")
        try:
            peer = Ed25519PublicKey.from_public_bytes(self.peers[letter.sender])
            peer.verify(b64decode(signature, validate=True), _key_of(letter.sender, text))
        except (ValueError, InvalidSignature):
            raise IntegrityError(
                "the key of a party's log isn't signed by the party; nothing is kept"
            ) from None
        key = NoteKey.parse(text)
        place, told = f"logs/{letter.sender}", str(key).encode()
        known = self.log_key_of(letter.sender)
        others = [self.log.key, *(self.log_key_of(one) for one in self.peers if one != letter.sender)]
        if any(one is not None and one.name == key.name for one in others):
            # What is kept of a log is kept under its name: whoever took another's could rewrite that.
            raise IntegrityError("a party tells the log of another as its own; ask it which is right")
        if known is None:
            self.kept.replace(place, told)
        elif str(known).encode() != told:
            raise IntegrityError("a party tells another log than before; ask it why it began one anew")

    def log_key_of(self, name: str) -> NoteKey | None:
        """Return the key of a peer's log, as the peer told it first."""
        try:
            return NoteKey.parse(self.kept.get(f"logs/{name}").decode())
        except VoxelVaultError:
            return None

    def _witness(self, name: str) -> Witness:
        known = self.log_key_of(name)
        return Witness(self.own, self.key.sign, [] if known is None else [known], self.kept)

    def note(self, index: int) -> str | None:
        """Return the checkpoint that most peers cosigned of those that hold an entry, and who did."""
        found: dict[str, str] = {}
        for witness in self.witnesses.values():
            attested, note = self._cosigning.attested(witness), self._cosigning.note_of(witness)
            if attested is not None and note is not None and attested.size > index:
                text, _, lines = note.rpartition("\n\n")
                known = found.get(text, "")
                found[text] = known + "".join(f"{one}\n" for one in lines.splitlines() if one not in known)
        best = max(found, key=lambda text: found[text].count("\n"), default=None)
        return None if best is None else f"{best}\n\n{found[best]}"


def _key_of(party: str, key: str) -> bytes:
    return _DOMAIN + canonical([party, key])


Answers = Callable[[bytes], bytes]


def answers_both(rounds: Answers, office: Office, attest: Callable[[str], str | None]) -> Answers:
    """Return what answers messages of rounds and bags of letters at a site.

    Parameters
    ----------
    rounds : callable
        Answers messages of rounds.
    office : Office
        The site's.
    attest : callable
        Gives what the site attests of a job, by its digest; None where it can't.
    """

    def mail(data: bytes) -> bytes:
        letters = unpack_letters(data)
        out = [*office.receive(letters), *office.letters()]
        for one in letters:
            if one.kind == "ask" and one.to == office.name and (said := attest(one.body)) is not None:
                out.append(Letter(office.name, one.sender, "attestation", said))
        return pack_letters(out)

    return lambda data: mail(data) if data.startswith(MAGIC) else rounds(data)


__all__ = [
    "MAGIC", "MOST_BYTES",
    "Letter", "Office", "answers_both", "pack_letters", "unpack_letters", "witness_key",
]  # fmt: skip
