"""Receipts: any change to the files or the document is found, and no value gets in."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from voxelvault.deid.receipt import Made, Receipt, Refusal, Terms, Verification, issue, order
from voxelvault.deid.receipt import verify_release as verify_lines
from voxelvault.errors import IntegrityError, NewerFormat, UsageError

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SIGNER = KEY.public_key().public_bytes_raw()
TERMS = Terms("0" * 32, "research", "ab" * 32, "2026d", ("113100", "113105"), "0.1.0", ("map_written",))
FILES = {f"{name}.dcm": name.encode() * 9 for name in "abcde"}


def receipt(path: str, data: bytes) -> Receipt:
    return Receipt(
        path,
        hashlib.sha256(data).hexdigest(),
        "cd" * 32,
        {"K": 12, "X": 3},
        {"leaks": "none", "pixels": "clean"},
        ((0, 1, 2, 30, 40),),
    )


def signed(
    entries: Iterable[Receipt | Made | Refusal],
    key: Ed25519PrivateKey = KEY,
    terms: Terms = TERMS,
    apart: bool = False,
) -> bytes:
    every = list(entries)
    files = sorted((one for one in every if not isinstance(one, Refusal)), key=lambda one: order(one.path))
    refused = [one for one in every if isinstance(one, Refusal)]
    return b"".join(issue(terms, files, refused, key, apart=apart))


def verify_release(
    document: bytes, files: Iterable[tuple[str, bytes | None]], signer: bytes | None = None
) -> Verification:
    return verify_lines(io.BytesIO(document), files, signer)


RECEIPTS = [receipt(path, data) for path, data in FILES.items()]
DOCUMENT = signed([*reversed(RECEIPTS), Refusal("ef" * 32, "leak_found")])


def test_a_release_as_it_was_signed_for_is_in_order() -> None:
    found = verify_release(DOCUMENT, FILES.items(), SIGNER)
    assert found.ok
    assert (found.files, found.refused, found.terms, found.signer) == (5, 1, TERMS, SIGNER)
    entries = [json.loads(line) for line in DOCUMENT.splitlines()[1:6]]
    assert [one["file"]["sha256"] for one in entries] == [one.sha256 for one in RECEIPTS]


def test_changed_missing_extra_and_reordered_files_are_told_apart() -> None:
    files = {**FILES, "b.dcm": b"other", "zz.dcm": b"new"}
    del files["d.dcm"]
    found = verify_release(DOCUMENT, files.items())
    assert not found.ok
    assert (found.changed, found.missing, found.extra) == (("b.dcm",), ("d.dcm",), ("zz.dcm",))
    swapped = verify_release(DOCUMENT, reversed(FILES.items()))
    assert (swapped.reordered, swapped.changed, swapped.missing) == (
        ("d.dcm", "c.dcm", "b.dcm", "a.dcm"), (), (),
    )  # fmt: skip
    twice = verify_release(DOCUMENT, [*FILES.items(), ("e.dcm", FILES["e.dcm"])])
    assert twice.extra == ("e.dcm",)
    exchanged = {**FILES, "a.dcm": FILES["b.dcm"], "b.dcm": FILES["a.dcm"]}
    assert verify_release(DOCUMENT, exchanged.items()).changed == ("a.dcm", "b.dcm")
    assert verify_release(DOCUMENT, []).missing == tuple(FILES)


@given(st.integers(0, len(DOCUMENT) - 1), st.integers(1, 255))
def test_any_changed_byte_is_found(place: int, change: int) -> None:
    changed = bytearray(DOCUMENT)
    changed[place] ^= change
    with pytest.raises((IntegrityError, NewerFormat)):
        verify_release(bytes(changed), FILES.items(), SIGNER)


def test_lines_left_out_repeated_or_exchanged_are_found() -> None:
    lines = DOCUMENT.splitlines(keepends=True)
    for others in (lines[:3] + lines[4:], lines[:-1], lines[:4] + lines[3:], lines[:-2] + lines[-1:], [],
                   [lines[0], lines[2], lines[1], *lines[3:]]):  # fmt: skip
        with pytest.raises(IntegrityError):
            verify_release(b"".join(others), FILES.items())


def test_a_document_signed_anew_by_somebody_else_is_refused_where_the_signer_is_known() -> None:
    stranger = Ed25519PrivateKey.generate()
    forged = signed([receipt(path, b"forged") for path in FILES], stranger)
    with pytest.raises(IntegrityError, match="another project"):
        verify_release(forged, FILES.items(), SIGNER)
    assert verify_release(forged, ((path, b"forged") for path in FILES)).signer != SIGNER


def line(body: dict[str, object]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def test_a_newer_format_says_so() -> None:
    first = json.loads(DOCUMENT.splitlines()[0])
    with pytest.raises(NewerFormat):
        verify_release(line({**first, "format": 2}) + DOCUMENT.partition(b"\n")[2], [])


@pytest.mark.parametrize(
    "wrong",
    [
        *({"signer": "zz"}, {"signer": "ab"}, {"signer": None}),
        *({"terms": {}}, {"terms": {"name": 1}}, {"terms": "x"}),
    ],
)
def test_a_document_of_nonsense_is_forged_and_no_crash(wrong: dict[str, object]) -> None:
    first = json.loads(DOCUMENT.splitlines()[0])
    lines = [line({**first, **wrong})]
    for body in ({"file": {"path": "a"}}, {"seal": {}}):
        lines.append(line({**body, "previous": hashlib.sha256(lines[-1][:-1]).hexdigest()}))
    proof = KEY.sign(b"voxelvault/1/deid/receipts\0" + hashlib.sha256(lines[-1][:-1]).digest())
    with pytest.raises(IntegrityError):
        verify_release(b"".join([*lines, line({"signature": proof.hex()})]), [])


def test_another_spelling_is_another_document() -> None:
    others = (DOCUMENT.replace(b"\n", b"\n\n", 1), DOCUMENT.replace(b":", b": ", 1), DOCUMENT[:-1], b"\n")
    for other in others:
        with pytest.raises(IntegrityError):
            verify_release(other, FILES.items())
    said = DOCUMENT.removesuffix(b"}\n") + b',"note":"and more"}\n'
    with pytest.raises(IntegrityError):
        verify_release(said, FILES.items())


def test_what_is_no_plain_file_was_not_signed_for() -> None:
    found = verify_release(DOCUMENT, [*{**FILES, "b.dcm": None}.items(), ("link", None)])
    assert (found.changed, found.extra) == (("b.dcm",), ("link",))


@pytest.mark.parametrize(
    "wrong",
    [
        {"sha256": "x"},
        {"source": "PAT1234567"},
        {"actions": {"PatientName": 1}},
        {"actions": {"K": "Doe"}},
        {"verdicts": {"pixels": "Doe^John"}},
        {"boxes": ((0, "Doe", 0, 0, 0),)},
    ],
)
def test_a_receipt_takes_no_values(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        replace(RECEIPTS[0], **wrong)  # type: ignore[arg-type]


def test_nor_do_refusals_and_terms() -> None:
    with pytest.raises(UsageError):
        Refusal("ab" * 32, "Doe^John")
    with pytest.raises(UsageError):
        replace(TERMS, profile="Doe^John")
    with pytest.raises(UsageError, match="one path"):
        signed([RECEIPTS[0], RECEIPTS[0]])


def test_files_made_from_many_are_signed_for_and_instances_may_lie_elsewhere() -> None:
    made = Made("DICOMDIR", hashlib.sha256(b"directory").hexdigest())
    both = verify_release(signed([*RECEIPTS, made]), [("DICOMDIR", b"directory"), *FILES.items()])
    assert (both.ok, both.files, both.made) == (True, 5, 1)
    document = signed([*RECEIPTS, made], apart=True)
    apart = verify_release(document, [("DICOMDIR", b"directory")])
    assert (apart.ok, apart.files, apart.made) == (True, 5, 1)
    assert verify_release(document, [("DICOMDIR", b"another")]).changed == ("DICOMDIR",)
    with pytest.raises(UsageError):
        Made("DICOMDIR", "Doe^John")
