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
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import chain
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


Line: TypeAlias = Receipt | Refusal | Made


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


def issue(terms: Terms, entries: Iterable[Line], key: Ed25519PrivateKey, *, apart: bool = False) -> bytes:
    """Write the receipts of a release.

    Parameters
    ----------
    terms : Terms
        What holds for all files.
    entries : iterable of Receipt, Refusal or Made
        In any order: they are written by path, so that their order tells nothing.
    key : Ed25519PrivateKey
        The project's signing key.
    apart : bool
        The instances are no files of the release: it holds what was made from them.

    Returns
    -------
    bytes
        Lines of ASCII JSON.

    Raises
    ------
    UsageError
        Two files have one path.
    """
    every = list(entries)
    files = sorted((one for one in every if isinstance(one, Receipt | Made)), key=lambda one: one.path)
    refused = sorted({one for one in every if isinstance(one, Refusal)}, key=lambda one: one.source)
    if len({one.path for one in files}) < len(files):
        raise UsageError("two files of the release have one path; release them into separate folders")
    signer = key.public_key().public_bytes_raw().hex()
    sort = "instance" if apart else "file"
    counts = {"files": sum(isinstance(one, Receipt) for one in files), "refused": len(refused)}
    bodies: Iterator[dict[str, Any]] = chain(
        [{"format": FORMAT, "signer": signer, "terms": asdict(terms)}],
        ({sort if isinstance(one, Receipt) else "made": asdict(one)} for one in files),
        ({"refused": asdict(one)} for one in refused),
        [{"seal": {**counts, "made": len(files) - counts["files"]}}],
    )
    lines, last = [], ""
    for body in bodies:
        line = _line({**body, "previous": last})
        last = hashlib.sha256(line).hexdigest()
        lines.append(line)
    lines.append(_line({"signature": key.sign(_CONTEXT + bytes.fromhex(last)).hex()}))
    return b"\n".join(lines) + b"\n"


def verify_release(
    document: bytes, files: Iterable[tuple[str, Buffer]], signer: bytes | None = None
) -> Verification:
    """Check a release against its receipts; no key of the project is needed.

    Parameters
    ----------
    document : bytes
        What `issue` wrote.
    files : iterable of (str, bytes)
        Path and content of each file of the release, in the order of their paths.
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
    head, *body = _chain(document, signer)
    lying = (one.get("file") or one.get("made") for one in body)
    compared = _Comparison()
    compared.run(((one["path"], one["sha256"]) for one in lying if one), files)
    return Verification(
        terms=Terms(**{name: _frozen(value) for name, value in head["terms"].items()}),
        signer=bytes.fromhex(head["signer"]),
        files=sum("file" in one or "instance" in one for one in body),
        refused=sum("refused" in one for one in body),
        made=sum("made" in one for one in body),
        changed=tuple(compared.changed),
        missing=tuple(compared.wanted),
        extra=tuple(compared.found),
        reordered=tuple(compared.reordered),
    )


def receipts_of(document: bytes, signer: bytes | None = None) -> Iterator[Receipt]:
    """Yield the entries of a document after checking its chain and signature.

    Raises
    ------
    IntegrityError, NewerFormat
        As `verify_release`.
    """
    for line in _chain(document, signer):
        entry = line.get("file") or line.get("instance")
        if entry:
            yield Receipt(**{**entry, "boxes": tuple(tuple(box) for box in entry["boxes"])})


class _Comparison:
    """Compares two streams of paths; holds only what the one has and the other had not yet."""

    def __init__(self) -> None:
        self.wanted: dict[str, str] = {}
        self.found: dict[str, str] = {}
        self.changed: list[str] = []
        self.reordered: list[str] = []

    def run(self, receipts: Iterator[tuple[str, str]], files: Iterable[tuple[str, Buffer]]) -> None:
        last = ""
        for path, data in files:
            digest = hashlib.sha256(data).hexdigest()
            if path < last:
                self.reordered.append(path)
            last = max(last, path)
            while path not in self.wanted and (entry := next(receipts, None)):
                self.wanted[entry[0]] = entry[1]
            if path not in self.wanted or path in self.found:
                self.found[path] = digest
            elif self.wanted.pop(path) != digest:
                self.changed.append(path)
        self.wanted.update(receipts)


def _chain(document: bytes, signer: bytes | None) -> list[dict[str, Any]]:
    """Return the lines but the signature, after checking how they hang together."""
    *lines, signature = [line for line in document.split(b"\n") if line] or [b""]
    parsed, last = [], ""
    for line in lines:
        one = _parsed(line)
        if one.get("previous") != last:
            raise _forged()
        last = hashlib.sha256(line).hexdigest()
        parsed.append(one)
    if not parsed or "terms" not in parsed[0] or "seal" not in parsed[-1]:
        raise _forged()
    if parsed[0].get("format") != FORMAT:
        raise NewerFormat("the receipts were written by a newer version: update voxelvault")
    public = bytes.fromhex(parsed[0]["signer"])
    if signer is not None and public != signer:
        raise IntegrityError("the receipts are signed by another project; ask for the right public key")
    try:
        proof = bytes.fromhex(_parsed(signature)["signature"])
        Ed25519PublicKey.from_public_bytes(public).verify(proof, _CONTEXT + bytes.fromhex(last))
    except (InvalidSignature, ValueError, KeyError, TypeError):
        raise _forged() from None
    return parsed


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        one = json.loads(line)
    except (ValueError, RecursionError):
        raise _forged() from None
    if not isinstance(one, dict):
        raise _forged()
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
    "Line",
    "Made",
    "Receipt",
    "Refusal",
    "Terms",
    "Verification",
    "issue",
    "receipts_of",
    "verify_release",
]
