"""The sealed format, both ways against Tink, and what it refuses."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections.abc import Callable

import pytest
import tink
from tink import cleartext_keyset_handle, streaming_aead
from tink.proto import aes_gcm_hkdf_streaming_pb2, common_pb2, tink_pb2

from voxelvault.crypto import streaming_aead as sealed
from voxelvault.crypto.streaming_aead import Kind, Opener, Preamble, Sealer, plain_length, sealed_length
from voxelvault.errors import IntegrityError, NewerFormat, UsageError
from voxelvault.model import new_id

FIRST, NEXT = sealed.FIRST_PLAIN, sealed.PLAIN_SEGMENT
BORDERS = [FIRST, FIRST + NEXT, FIRST + 2 * NEXT, FIRST + 16 * NEXT]
SIZES = [0, 1, 39, 40, 1000, 65536, *(b + d for b in BORDERS for d in (-1, 0, 1)), 3_000_001]
DEK, VAULT, HEAD = os.urandom(32), new_id(), sealed.HEAD_LENGTH
WHAT = Preamble(Kind.SHARD, new_id(), new_id())
AAD = WHAT.pack() + bytes.fromhex(VAULT)
PLAIN = os.urandom(max(SIZES))


def seal(plain: bytes, *, piece: int = 1 << 20, what: Preamble = WHAT, vault: str = VAULT) -> bytes:
    parts: list[bytes] = []
    sealer = Sealer(DEK, what, vault, lambda view: parts.append(bytes(view)))
    for at in range(0, len(plain), piece):
        sealer.write(plain[at : at + piece])
    length, digest = sealer.close()
    whole = b"".join(parts)
    assert (length, digest) == (len(whole), hashlib.sha256(whole).hexdigest())
    return whole


def open_whole(
    whole: bytes, *, length: int | None = None, what: Preamble = WHAT, vault: str = VAULT
) -> bytes:
    opener = Opener(DEK, whole[:HEAD], vault, len(whole) if length is None else length, what)
    return open_part(opener, whole, 0, opener.size)


def open_part(opener: Opener, whole: bytes, start: int, stop: int) -> bytes:
    out = bytearray(stop - start)
    first, end = opener.cipher_range(start, stop)
    opener.open_range(whole[first:end], start, stop, memoryview(out))
    return bytes(out)


@pytest.fixture(scope="module")
def theirs() -> streaming_aead.StreamingAead:
    """Tink's own primitive over our key."""
    streaming_aead.register()
    params = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingParams(
        ciphertext_segment_size=65536, derived_key_size=32, hkdf_hash_type=common_pb2.SHA256
    )
    key = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey(version=0, key_value=DEK, params=params)
    keyset = tink_pb2.Keyset(primary_key_id=1)
    entry = keyset.key.add(key_id=1, status=tink_pb2.ENABLED, output_prefix_type=tink_pb2.RAW)
    entry.key_data.type_url = "type.googleapis.com/google.crypto.tink.AesGcmHkdfStreamingKey"
    entry.key_data.value = key.SerializeToString()
    entry.key_data.key_material_type = tink_pb2.KeyData.SYMMETRIC
    handle = cleartext_keyset_handle.read(tink.BinaryKeysetReader(keyset.SerializeToString()))
    primitive: streaming_aead.StreamingAead = handle.primitive(streaming_aead.StreamingAead)
    return primitive


class Kept(io.BytesIO):
    """A file whose content outlives Tink closing it."""

    def close(self) -> None:
        self.kept = self.getvalue()
        super().close()


@pytest.mark.parametrize("size", SIZES)
def test_tink_opens_what_we_seal(theirs: streaming_aead.StreamingAead, size: int) -> None:
    whole = seal(PLAIN[:size])
    assert len(whole) == sealed_length(size)
    with theirs.new_decrypting_stream(io.BytesIO(whole[48:]), AAD) as stream:
        assert stream.read() == PLAIN[:size]


@pytest.mark.parametrize("size", SIZES)
def test_we_open_what_tink_seals(theirs: streaming_aead.StreamingAead, size: int) -> None:
    kept = Kept()
    with theirs.new_encrypting_stream(kept, AAD) as stream:
        stream.write(PLAIN[:size])
    assert open_whole(WHAT.pack() + kept.kept) == PLAIN[:size]


def test_tink_refuses_another_associated_data(theirs: streaming_aead.StreamingAead) -> None:
    whole = seal(PLAIN[:1000])
    with (
        pytest.raises(tink.TinkError),
        theirs.new_decrypting_stream(io.BytesIO(whole[48:]), AAD[:-1] + b"?") as stream,
    ):
        stream.read()


@pytest.mark.parametrize("piece", [1, 7, 4096, FIRST - 1, FIRST, FIRST + 1, NEXT, 200_000])
def test_pieces_of_any_size_make_the_same_object(piece: int) -> None:
    plain = PLAIN[: FIRST + NEXT + 5] if piece > 7 else PLAIN[: FIRST + 3]
    assert open_whole(seal(plain, piece=piece)) == plain


def test_the_preamble_is_fixed() -> None:
    what = Preamble(Kind.SHARD, "00112233445566778899aabbccddeeff", "ff" * 16)
    expected = "564f585641554c54000100020001000000112233445566778899aabbccddeeff" + "ff" * 16
    assert what.pack().hex() == expected
    assert Preamble.unpack(what.pack()) == what


def test_the_format_is_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A golden object: if this changes, no vault opens any more."""
    monkeypatch.setattr(sealed.os, "urandom", lambda n: bytes(range(n)))
    parts: list[bytes] = []
    sealer = Sealer(b"k" * 32, Preamble(1, "11" * 16, "22" * 16), "33" * 16, lambda v: parts.append(bytes(v)))
    sealer.write(bytes(70_000))
    assert sealer.close()[0] == sealed_length(70_000) == 70_120
    digest = hashlib.sha256(b"".join(parts)).hexdigest()
    assert digest == "805d56c98ad90f1789ace8587e1bca9517b58768109d42618390d5c7ad75135a"


def damaged_magic(head: bytearray) -> None:
    head[0] ^= 1


def old_format(head: bytearray) -> None:
    head[9] = 0


def reserved_used(head: bytearray) -> None:
    head[15] = 1


@pytest.mark.parametrize("damage", [damaged_magic, old_format, reserved_used])
def test_damaged_preambles_are_refused(damage: Callable[[bytearray], None]) -> None:
    head = bytearray(WHAT.pack())
    damage(head)
    with pytest.raises(IntegrityError):
        Preamble.unpack(head)


@pytest.mark.parametrize("at", [9, 13])
def test_a_newer_format_or_suite_says_so(at: int) -> None:
    head = bytearray(WHAT.pack())
    head[at] += 1
    with pytest.raises(NewerFormat, match="upgrade"):
        Preamble.unpack(head)


def test_short_heads_are_refused() -> None:
    with pytest.raises(IntegrityError):
        Preamble.unpack(WHAT.pack()[:47])
    with pytest.raises(IntegrityError, match="header"):
        Opener(DEK, seal(b"x")[: HEAD - 1], VAULT, 105, WHAT)


@pytest.mark.parametrize(
    "other",
    [
        Preamble(Kind.MANIFEST, WHAT.object_id, WHAT.key_id),
        Preamble(Kind.SHARD, new_id(), WHAT.key_id),
        Preamble(Kind.SHARD, WHAT.object_id, new_id()),
    ],
)
def test_swapped_objects_are_refused(other: Preamble) -> None:
    whole = seal(PLAIN[:100])
    with pytest.raises(IntegrityError, match="not what its reference says"):
        open_whole(whole, what=other)
    # Renamed in its preamble too, it is no longer what was sealed.
    with pytest.raises(IntegrityError, match="changed or sealed under another key"):
        open_whole(other.pack() + whole[48:], what=other)


def test_another_vault_is_refused() -> None:
    with pytest.raises(IntegrityError):
        open_whole(seal(b"x"), vault=new_id())


def test_an_empty_object_is_authenticated() -> None:
    whole = seal(b"")
    assert open_whole(whole) == b""
    with pytest.raises(IntegrityError):
        open_whole(whole[:-1] + bytes([whole[-1] ^ 1]))


def test_a_cut_object_is_refused_by_its_last_segment_and_by_its_length() -> None:
    plain = PLAIN[: FIRST + NEXT + 10]
    whole = seal(plain)
    cut = whole[: 48 + 2 * sealed.SEGMENT]
    with pytest.raises(IntegrityError):
        open_whole(cut)
    with pytest.raises(IntegrityError, match="ends too soon"):
        open_whole(cut, length=len(whole))


def test_swapped_segments_are_refused() -> None:
    whole, segment = seal(PLAIN[: FIRST + 3 * NEXT]), sealed.SEGMENT
    a, b, c = 48 + segment, 48 + 2 * segment, 48 + 3 * segment
    with pytest.raises(IntegrityError):
        open_whole(whole[:a] + whole[b:c] + whole[a:b] + whole[c:])


def test_nothing_unverified_stays_in_the_destination() -> None:
    whole = bytearray(seal(PLAIN[: 2 * NEXT]))
    whole[-1] ^= 1
    opener = Opener(DEK, whole[:HEAD], VAULT, len(whole), WHAT)
    out = bytearray(b"\xff" * opener.size)
    with pytest.raises(IntegrityError):
        opener.open_range(whole[HEAD:], 0, opener.size, memoryview(out))
    assert not any(out)


@pytest.mark.parametrize("span", [(-1, 2), (0, 101), (5, 4)])
def test_ranges_outside_are_refused(span: tuple[int, int]) -> None:
    whole = seal(PLAIN[:100])
    opener = Opener(DEK, whole[:HEAD], VAULT, len(whole), WHAT)
    with pytest.raises(UsageError):
        opener.cipher_range(*span)


def test_the_destination_must_fit() -> None:
    whole = seal(PLAIN[:100])
    opener = Opener(DEK, whole[:HEAD], VAULT, len(whole), WHAT)
    with pytest.raises(UsageError, match="destination"):
        opener.open_range(whole[HEAD:], 0, 100, memoryview(bytearray(99)))


def test_an_empty_range_reads_nothing() -> None:
    whole = seal(PLAIN[:100])
    opener = Opener(DEK, whole[:HEAD], VAULT, len(whole), WHAT)
    assert opener.cipher_range(50, 50) == (HEAD, HEAD)
    assert open_part(opener, whole, 50, 50) == b""


def test_a_range_reads_whole_segments_only() -> None:
    whole = seal(PLAIN[:3_000_001])
    opener = Opener(DEK, whole[:HEAD], VAULT, len(whole), WHAT)
    segment = sealed.SEGMENT
    assert opener.cipher_range(0, 1) == (HEAD, 48 + segment)
    assert opener.cipher_range(FIRST, FIRST + 1) == (48 + segment, 48 + 2 * segment)
    assert opener.cipher_range(FIRST - 1, FIRST + 1) == (HEAD, 48 + 2 * segment)
    assert opener.cipher_range(3_000_000, 3_000_001)[1] == len(whole)


@pytest.mark.parametrize("length", [0, 47, 48, 88, 103, 48 + 65536 + 1, 48 + 65536 + 16])
def test_impossible_lengths_are_refused(length: int) -> None:
    with pytest.raises(IntegrityError):
        plain_length(length)


@pytest.mark.parametrize("size", SIZES)
def test_lengths_invert(size: int) -> None:
    assert plain_length(sealed_length(size)) == size


def test_the_sealer_keeps_its_memory_bounded() -> None:
    longest = 0

    def sink(view: memoryview) -> None:
        nonlocal longest
        longest = max(longest, len(view))

    sealer = Sealer(DEK, WHAT, VAULT, sink)
    for _ in range(8):
        sealer.write(memoryview(PLAIN))
    sealer.close()
    assert longest <= (1 << 20) + HEAD


def test_a_failed_sink_closes_the_sealer() -> None:
    def sink(view: memoryview) -> None:
        raise OSError

    sealer = Sealer(DEK, WHAT, VAULT, sink)
    with pytest.raises(OSError):  # noqa: PT011
        sealer.write(PLAIN)
    with pytest.raises(UsageError, match="anew"):
        sealer.close()
    with pytest.raises(UsageError):
        sealer.write(b"x")


def test_a_closed_sealer_takes_no_more() -> None:
    sealer = Sealer(DEK, WHAT, VAULT, lambda view: None)
    sealer.close()
    with pytest.raises(UsageError):
        sealer.write(b"x")


def test_two_seals_of_the_same_bytes_share_nothing() -> None:
    assert seal(PLAIN[:100])[48:] != seal(PLAIN[:100])[48:]


def test_arrays_go_in_as_they_are() -> None:
    view = memoryview(PLAIN[:96]).cast("h", (6, 8))
    parts: list[bytes] = []
    sealer = Sealer(DEK, WHAT, VAULT, lambda v: parts.append(bytes(v)))
    sealer.write(view)
    sealer.close()
    assert open_whole(b"".join(parts)) == PLAIN[:96]


@pytest.mark.parametrize(
    "bad", [{"dek": b"short"}, {"vault_id": "00"}, {"preamble": Preamble(1, "00", "00")}]
)
def test_malformed_keys_and_ids_are_refused(bad: dict[str, object]) -> None:
    good: dict[str, object] = {"dek": DEK, "preamble": WHAT, "vault_id": VAULT, "sink": lambda view: None}
    with pytest.raises(UsageError):
        Sealer(**{**good, **bad})  # type: ignore[arg-type]


def test_threads_share_an_opener() -> None:
    whole = seal(PLAIN)
    opener = Opener(DEK, whole[:HEAD], VAULT, len(whole), WHAT)
    wrong: list[int] = []

    def read(offset: int) -> None:
        for start in range(offset, len(PLAIN) - 100_000, 210_011):
            if open_part(opener, whole, start, start + 100_000) != PLAIN[start : start + 100_000]:
                wrong.append(start)

    threads = [threading.Thread(target=read, args=(i * 7919,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
