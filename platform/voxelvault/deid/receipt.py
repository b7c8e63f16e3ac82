"""Receipts: what was done to each file of a release, chained and signed, without any value.

A document of lines, each a JSON object that names the SHA-256 of the line before it: a header, an
entry a file in the order of their paths, one for each refused source, and a seal whose Ed25519
signature covers the whole chain. Where a release is volumes or tables, there are entries for the
instances that went into them, and one for each file that was made from many. Whoever has the release
and this document can check it; no key of the project is needed. A source is named by a keyed digest,
so that only the project can say which.

References
----------
RFC 8032 (Ed25519), FIPS 180-4 (SHA-256), DICOM PS3.15 E.1 (actions).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from voxelvault.deid.model import REASONS, Action
from voxelvault.errors import IntegrityError, NewerFormat, UsageError
from voxelvault.model import Buffer

FORMAT = 1
Box: TypeAlias = tuple[int, int, int, int, int]
"""Frame, left, top, right, bottom; in pixels, right and bottom excluded."""

_CONTEXT = b"voxelvault/1/deid/receipts\0"
_DIGEST = re.compile(r"[0-9a-f]{64}")
# A profile is named by its preset and every option beside it.
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.+ -]{0,511}")


@dataclass(frozen=True)
class Terms:
    """What holds for all files of a release; the first line.

    Parameters
    ----------
    release_id : str
        Random id.
    profile : str
        Name of the policy in force.
    policy : str
        SHA-256 of all rules in force, hexadecimal.
    edition : str
        Edition of PS3.15 that the rules are taken from.
    options : tuple of str
        Codes of CID 7050.
    version : str
        Of the code that made the release.
    notes : tuple of str
        Words of ours, such as `map_written`.
    """

    release_id: str
    profile: str
    policy: str
    edition: str
    options: tuple[str, ...] = ()
    version: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require(_DIGEST.fullmatch(self.policy), "a policy's digest")
        _require(all(map(_CODE.fullmatch, (self.profile, *self.notes))), "a name of a profile or note")


@dataclass(frozen=True)
class Receipt:
    """One file of the release.

    Parameters
    ----------
    path : str
        Where it lies in the release, or its new SOP Instance UID.
    sha256 : str
        Of the whole file, hexadecimal.
    source : str
        Keyed digest of the source (`Pseudonyms.digest`).
    actions : mapping of str to int
        Elements per action, at every depth.
    verdicts : mapping of str to str
        Word by check, such as ``{"leaks": "none", "pixels": "clean"}``.
    boxes : tuple of Box
        What was blanked.
    """

    path: str
    sha256: str
    source: str
    actions: Mapping[str, int]
    verdicts: Mapping[str, str] = field(default_factory=dict)
    boxes: tuple[Box, ...] = ()

    def __post_init__(self) -> None:
        _require(all(map(_DIGEST.fullmatch, (self.sha256, self.source))), "a digest")
        _require(set(self.actions) <= {str(one) for one in Action}, "an action")
        _require(all(type(count) is int for count in self.actions.values()), "a count")
        _require(all(map(_CODE.fullmatch, (*self.verdicts, *self.verdicts.values()))), "a verdict")
        _require(all(len(box) == 5 and all(type(n) is int for n in box) for box in self.boxes), "a box")


@dataclass(frozen=True)
class Refusal:
    """A source that isn't in the release, and the code of the reason (`REASONS`)."""

    source: str
    reason: str

    def __post_init__(self) -> None:
        _require(_DIGEST.fullmatch(self.source), "a digest")
        _require(self.reason in REASONS, "a reason")


@dataclass(frozen=True)
class Made:
    """A file made from many: a directory, a volume, a table; its path and its SHA-256, hexadecimal."""

    path: str
    sha256: str

    def __post_init__(self) -> None:
        _require(_DIGEST.fullmatch(self.sha256), "a digest")


@dataclass(frozen=True)
class Verification:
    """What a check of a release found.

    Attributes
    ----------
    terms : Terms
        The header.
    signer : bytes
        Public key that the document is signed with: 32 bytes, Ed25519.
    files, refused, made : int
        Entries of each sort: instances, sources that were left out, files made from many.
    changed, missing, extra, reordered : tuple of str
        Paths: other bytes; in the receipts alone; in the release alone; at another place in it.
    """

    terms: Terms
    signer: bytes
    files: int
    refused: int
    made: int = 0
    changed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    reordered: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """The release is what was signed for."""
        return not (self.changed or self.missing or self.extra or self.reordered)


def order(path: str) -> str:
    """Return what paths are in the order of: folder by folder, as a disk is walked."""
    return path.replace("/", "\1")


def issue(
    terms: Terms,
    files: Iterable[Receipt | Made],
    refused: Iterable[Refusal],
    key: Ed25519PrivateKey,
    *,
    apart: bool = False,
) -> Iterator[bytes]:
    """Yield the receipts of a release, line by line; nothing is held.

    Parameters
    ----------
    terms : Terms
        What holds for all files.
    files : iterable of Receipt or Made
        By their paths (`order`), so that their order tells nothing.
    refused : iterable of Refusal
        By their sources.
    key : Ed25519PrivateKey
        The project's signing key.
    apart : bool
        The instances are no files of the release: it holds what was made from them.

    Raises
    ------
    UsageError
        Two files have one path, or they are not in order.
    """
    last = ""
    for body in _bodies(terms, files, refused, key.public_key().public_bytes_raw(), apart):
        line = _line({**body, "previous": last})
        last = hashlib.sha256(line).hexdigest()
        yield line + b"\n"
    yield _line({"signature": key.sign(_CONTEXT + bytes.fromhex(last)).hex()}) + b"\n"


def _bodies(
    terms: Terms, files: Iterable[Receipt | Made], refused: Iterable[Refusal], signer: bytes, apart: bool
) -> Iterator[dict[str, Any]]:
    counts = {"files": 0, "refused": 0, "made": 0}
    yield {"format": FORMAT, "signer": signer.hex(), "terms": asdict(terms)}
    last = ""
    for one in files:
        if order(one.path) <= last:
            raise UsageError("two files of the release have one path; release them into separate folders")
        last = order(one.path)
        made = isinstance(one, Made)
        counts["made" if made else "files"] += 1
        yield {"made" if made else "instance" if apart else "file": vars(one)}
    for refusal in refused:
        counts["refused"] += 1
        yield {"refused": vars(refusal)}
    yield {"seal": counts}


def verify_release(
    document: Iterable[bytes], files: Iterable[tuple[str, Buffer | None]], signer: bytes | None = None
) -> Verification:
    """Check a release against its receipts; no key of the project is needed.

    Parameters
    ----------
    document : iterable of bytes
        The lines that `issue` yielded, such as an open file.
    files : iterable of (str, bytes or None)
        Path and content of each file of the release, by their paths (`order`); None for what is no
        plain file.
    signer : bytes, optional
        The project's public signing key, got from elsewhere. Without it, the document is only
        shown to agree with itself and with the files: someone else might have signed it.

    Returns
    -------
    Verification
        What is not as it was signed for.

    Raises
    ------
    IntegrityError
        The document was changed, cut or signed by somebody else.
    NewerFormat
        The receipts were written by a newer version.
    """
    lines = _chained(document, signer)
    counts: Counter[str] = Counter()
    compared = _Comparison()
    head = next(lines, None)
    if head is None:
        raise _forged()
    terms = _terms(head)
    compared.run(_lying(lines, counts), files)
    return Verification(
        terms=terms,
        signer=bytes.fromhex(head["signer"]),
        files=counts["file"] + counts["instance"],
        refused=counts["refused"],
        made=counts["made"],
        changed=tuple(compared.changed),
        missing=tuple(compared.wanted),
        extra=tuple(compared.found),
        reordered=tuple(compared.reordered),
    )


def _lying(lines: Iterator[dict[str, Any]], counts: Counter[str]) -> Iterator[tuple[str, str]]:
    """Count the entries of each sort, and yield path and digest of each file."""
    for line in lines:
        for sort in ("file", "made", "instance", "refused"):
            counts[sort] += sort in line
        one = line.get("file") or line.get("made")
        if one:
            try:
                path, digest = one["path"], one["sha256"]
            except (LookupError, TypeError):
                raise _forged() from None
            yield str(path), str(digest)


def _terms(head: Mapping[str, Any]) -> Terms:
    try:
        return Terms(**{name: _frozen(value) for name, value in head["terms"].items()})
    except (TypeError, AttributeError, UsageError):
        raise _forged() from None


class _Comparison:
    """Compares two streams of paths; holds only what the one has and the other had not yet."""

    def __init__(self) -> None:
        self.wanted: dict[str, str] = {}
        self.found: dict[str, str] = {}
        self.changed: list[str] = []
        self.reordered: list[str] = []

    def run(self, receipts: Iterator[tuple[str, str]], files: Iterable[tuple[str, Buffer | None]]) -> None:
        last = ""
        for path, data in files:
            digest = "" if data is None else hashlib.sha256(data).hexdigest()
            if order(path) < last:
                self.reordered.append(path)
            last = max(last, order(path))
            while path not in self.wanted and (entry := next(receipts, None)):
                self.wanted[entry[0]] = entry[1]
            if path not in self.wanted or path in self.found:
                self.found[path] = digest
            elif self.wanted.pop(path) != digest:
                self.changed.append(path)
        self.wanted.update(receipts)


def _chained(document: Iterable[bytes], signer: bytes | None) -> Iterator[dict[str, Any]]:
    """Yield the lines but the signature; the last one only if all of them hang together."""
    last, held, public, body = "", b"", b"", dict[str, Any]()
    for line in document:
        if held:
            body = _parsed(held)
            if body.get("previous") != last:
                raise _forged()
            public = public or _signer(body, signer)
            last = hashlib.sha256(held).hexdigest()
            yield body
        held = line.removesuffix(b"\n")
        if len(held) == len(line) or not held:
            raise _forged()
    if "seal" not in body:
        raise _forged()
    try:
        proof = bytes.fromhex(_parsed(held)["signature"])
        if held != _line({"signature": proof.hex()}):
            raise ValueError
        Ed25519PublicKey.from_public_bytes(public).verify(proof, _CONTEXT + bytes.fromhex(last))
    except (InvalidSignature, ValueError, KeyError, TypeError):
        raise _forged() from None


def _signer(head: Mapping[str, Any], signer: bytes | None) -> bytes:
    """Return who signed, as the first line has it."""
    if "terms" not in head:
        raise _forged()
    if head.get("format") != FORMAT:
        raise NewerFormat("the receipts were written by a newer version: update voxelvault")
    try:
        public = bytes.fromhex(head["signer"])
    except (ValueError, KeyError, TypeError):
        raise _forged() from None
    if len(public) != 32:
        raise _forged()
    if signer is not None and public != signer:
        raise IntegrityError("the receipts are signed by another project; ask for the right public key")
    return public


def _parsed(line: bytes) -> dict[str, Any]:
    """Return a line as an object; one that says the same in another spelling is none of ours."""
    try:
        one = json.loads(line)
        if not isinstance(one, dict) or _line(one) != line:
            raise ValueError
    except (ValueError, RecursionError):
        raise _forged() from None
    return one


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _line(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _forged() -> IntegrityError:
    return IntegrityError("the receipts were changed or cut; get the release and its receipts again")


def _require(holds: object, what: str) -> None:
    if not holds:
        raise UsageError(f"a receipt holds no such thing as this: it is not {what}")


__all__ = [
    "Box",
    "FORMAT",
    "Made",
    "Receipt",
    "Refusal",
    "Terms",
    "Verification",
    "issue",
    "order",
    "verify_release",
]
