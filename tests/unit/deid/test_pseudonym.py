"""Pseudonyms: golden vectors, computed here from the RFCs alone; domains, normal forms, distinctness."""

from __future__ import annotations

import hashlib
import hmac
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxelvault.deid.pseudonym import (
    MOST_DAYS,
    ProjectPseudonyms,
    is_registered,
    length_prefixed,
    normal_id,
)
from voxelvault.errors import UsageError

KEY = bytes(range(32))
PROJECT = "0123456789abcdef0123456789abcdef"
OURS = ProjectPseudonyms(KEY, PROJECT)
SOURCE_UID = "1.3.6.1.4.1.5962.1.1.1.1.1.20040119072730.12322"


def _prefixed(text: bytes) -> bytes:
    return len(text).to_bytes(4, "big") + text


def _mac(domain: str, value: bytes, scope: bytes = b"") -> bytes:
    """HKDF-SHA256 of one block (RFC 5869), then HMAC over the length-prefixed value."""
    salt = _prefixed(PROJECT.encode()) + _prefixed(scope)
    extracted = hmac.new(salt, KEY, hashlib.sha256).digest()
    info = b"voxelvault/1/deid/" + domain.encode()
    sub_key = hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()
    return hmac.new(sub_key, _prefixed(value), hashlib.sha256).digest()


def test_golden_vectors() -> None:
    assert OURS.uid(SOURCE_UID) == "2.25.265919458714777855930468736038742314972"
    assert OURS.patient("subject") == "PN99NZM0V05NDVD4"
    assert OURS.study_id("4MR1") == "S0M002BC90GZKMWG"
    assert OURS.accession("A-1") == "AMSB82QTCPGFS0JP"
    assert OURS.device("HOST01") == "D7PKNR0LZFFDG90Q"
    assert OURS.other("x") == "X9P4RS4P19NH9N2C"
    assert OURS.days("subject") == -119
    assert OURS.digest(b"file") == "57a3a622c1b3925ec1134b8e2d3f3a8df3cbac5d6363499e9281ba0b719ec8a4"


def test_a_uid_is_a_uuid_of_version_8_made_of_the_mac() -> None:
    made = uuid.UUID(int=int(OURS.uid(SOURCE_UID).removeprefix("2.25.")))
    expected = bytearray(_mac("uid", SOURCE_UID.encode())[:16])
    expected[6] = expected[6] & 0x0F | 0x80
    expected[8] = expected[8] & 0x3F | 0x80
    assert made.bytes == bytes(expected)
    assert (made.version, made.variant) == (8, uuid.RFC_4122)


def test_days_and_digest_come_from_their_own_domains() -> None:
    assert OURS.days("s") == -1 - int.from_bytes(_mac("date", b"s")[:8], "big") % MOST_DAYS
    assert OURS.digest(b"file") == _mac("receipt", hashlib.sha256(b"file").digest()).hex()


def test_the_shift_does_not_come_from_the_published_pseudonym() -> None:
    assert OURS.days("subject") != OURS.days(OURS.patient("subject"))


def test_each_domain_project_key_and_scope_gives_others() -> None:
    value = "1234567"
    same = [OURS.study_id, OURS.accession, OURS.device, OURS.other, OURS.patient]
    assert len({make(value)[1:] for make in same}) == len(same)
    others = [
        ProjectPseudonyms(KEY, "f" * 32),
        ProjectPseudonyms(bytes(32), PROJECT),
        ProjectPseudonyms(KEY, PROJECT, scope="second export"),
    ]
    for make in ("uid", "patient", "accession"):
        made = {getattr(one, make)(value) for one in [OURS, *others]}
        assert len(made) == 4


@pytest.mark.parametrize(
    "uid", ["1.2.840.10008.1.2.4.201", "1.2.840.10008.5.1.4.1.1.66.7", "1.2.840.10008.6.1.1500", "", "\0"]
)
def test_registered_and_empty_uids_stay(uid: str) -> None:
    assert OURS.uid(uid) == uid.strip("\0")


@pytest.mark.parametrize(
    "uid",
    [
        "1.2.840.10008.5.1.4.20040119",
        "1.2.840.10008.1980.5.12",
        "1.2.840.10008.1.1980.5.1234",
        "1.2.840.10008.1.2.3.4.5.6.7.8.9",
        "1.2.840.100080",
        "ID_0a1b2c3d",
    ],
)
def test_what_only_looks_registered_is_replaced(uid: str) -> None:
    assert not is_registered(uid)
    assert OURS.uid(uid).startswith("2.25.")


def test_padding_of_a_uid_makes_no_difference() -> None:
    assert OURS.uid(SOURCE_UID + "\0") == OURS.uid(SOURCE_UID + " ") == OURS.uid(SOURCE_UID)


@pytest.mark.parametrize("other", ["ab 12", " AB  12 ", "\uff21\uff22 12", "Ab\u00a012\0"])
def test_ids_are_keyed_in_their_normal_form(other: str) -> None:
    assert normal_id(other) == "ab 12"
    assert OURS.accession(other) == OURS.accession("AB 12")


def test_leading_zeros_are_part_of_an_id() -> None:
    assert OURS.accession("0012") != OURS.accession("12")


@given(st.lists(st.binary(max_size=8), max_size=4), st.lists(st.binary(max_size=8), max_size=4))
def test_length_prefixes_tell_parts_apart(one: list[bytes], other: list[bytes]) -> None:
    assert (length_prefixed(*one) == length_prefixed(*other)) == (one == other)


def test_shifts_cover_the_range_evenly() -> None:
    days = [OURS.days(str(number)) for number in range(20_000)]
    assert set(days) == set(range(-MOST_DAYS, 0))


def test_every_symbol_fits_its_vr_and_spells_no_word() -> None:
    made = [OURS.patient(str(number)) for number in range(2_000)]
    assert len(set(made)) == 2_000
    assert all(len(one) == 16 and one.isalnum() and not set(one) & set("AEIOUY") for one in made)


def test_the_key_is_never_shown_and_has_32_bytes() -> None:
    assert KEY.hex() not in repr(OURS)
    assert "\\x01" not in repr(OURS)
    with pytest.raises(UsageError, match="32 bytes"):
        ProjectPseudonyms(b"short", PROJECT)
