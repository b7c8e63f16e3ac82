"""A witness against another implementation's log, forks, races and hostile bodies."""

from __future__ import annotations

import base64
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from witness_vectors import KEY, LEAVES, ORIGIN, PROOFS, ROOTS, SIGNATURES, note, request

from voxelvault.audit.checkpoint import Checkpoint, NoteKey, sign_note
from voxelvault.audit.cosignature import WitnessKey, cosign, cosigned
from voxelvault.audit.merkle import EMPTY_ROOT
from voxelvault.audit.witness import BODY_LIMIT, SIZE_TYPE, Answer, Witness, origin_hash
from voxelvault.errors import IntegrityError, StorageError
from voxelvault.storage.objects import LocalObjects, MemoryObjects

SIGNER = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
NAME = WitnessKey("example.com/witness", SIGNER.public_key().public_bytes_raw())
NOW = 1679315147


def made(objects: MemoryObjects | LocalObjects | None = None, *logs: NoteKey) -> Witness:
    return Witness(NAME, SIGNER.sign, logs or [KEY], objects or MemoryObjects(), lambda: NOW + 0.5)


@pytest.fixture
def witness() -> Witness:
    return made()


def test_a_published_key_is_read_and_written() -> None:
    key = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2"
    assert str(WitnessKey.parse(key)) == key
    with pytest.raises(IntegrityError):
        NoteKey.parse(key)
    with pytest.raises(IntegrityError):
        WitnessKey.parse(str(KEY))


def test_what_is_signed_has_the_bytes_of_the_specification() -> None:
    text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    line = cosign(text, NAME, lambda message: message[:64].ljust(64), NOW)
    data = base64.b64decode(line.split(" ")[2])
    assert data[4:12].hex() == "0000000064185" + "0cb"
    assert data[12:].startswith(b"cosignature/v1\ntime 1679315147\nexample.com/behind-the-sofa\n2085")


def test_another_implementations_log_is_cosigned(witness: Witness) -> None:
    for old, size in ((0, 1), (1, 3), (3, 5)):
        answer = witness.add_checkpoint(request(old, size))
        assert answer.status == 200
        assert answer.body.startswith(f"— {NAME.name} ")
        assert cosigned(note(size) + answer.body, [NAME]) == {NAME: NOW}
    assert witness.add_checkpoint(request(5, 5)).status == 200
    again = witness.add_checkpoint(request(0, 5))
    assert again == Answer(409, "5\n", SIZE_TYPE)


def test_a_step_back_is_refused_with_the_size(witness: Witness) -> None:
    witness.add_checkpoint(request(0, 3))
    assert witness.add_checkpoint(request(0, 1)) == Answer(409, "3\n", SIZE_TYPE)
    assert witness.add_checkpoint(request(1, 5)) == Answer(409, "3\n", SIZE_TYPE)
    assert witness.add_checkpoint(request(3, 1)).status == 400


@pytest.mark.parametrize(
    "proof",
    [
        (),
        (LEAVES[1],),
        (LEAVES[1], LEAVES[3]),
        (*PROOFS[1, 3], LEAVES[4]),
        (LEAVES[1],) * 63,
    ],
)
def test_a_proof_that_does_not_hold_is_refused(witness: Witness, proof: tuple[str, ...]) -> None:
    assert witness.add_checkpoint(request(0, 1)).status == 200
    assert witness.add_checkpoint(request(1, 3, proof)).status == 422
    assert witness.add_checkpoint(request(1, 3)).status == 200


def test_a_forked_log_is_refused(witness: Witness) -> None:
    log = Ed25519PrivateKey.generate()
    key = NoteKey("fork.example/log", log.public_key().public_bytes_raw())
    witness = made(None, key)

    def signed(size: int, root: bytes) -> str:
        return sign_note(Checkpoint(key.name, size, root).text, key, log.sign)

    assert witness.add_checkpoint(f"old 0\n\n{signed(2, b'a' * 32)}".encode()).status == 200
    assert witness.add_checkpoint(f"old 2\n\n{signed(2, b'b' * 32)}".encode()).status == 422
    grown = "".join(f"{base64.b64encode(bytes([n]) * 32).decode()}\n" for n in range(2))
    assert witness.add_checkpoint(f"old 2\n{grown}\n{signed(3, b'b' * 32)}".encode()).status == 422
    assert witness.add_checkpoint(f"old 0\n\n{signed(2, b'b' * 32)}".encode()).status == 409


def test_the_empty_tree_has_one_root() -> None:
    log = Ed25519PrivateKey.generate()
    key = NoteKey("empty.example/log", log.public_key().public_bytes_raw())
    witness = made(None, key)
    for root, status in ((b"x" * 32, 422), (EMPTY_ROOT, 200)):
        signed = sign_note(Checkpoint(key.name, 0, root).text, key, log.sign)
        assert witness.add_checkpoint(f"old 0\n\n{signed}".encode()).status == status


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda body: body.replace(ORIGIN, "other.example/log"), 404),
        (lambda body: body.replace("VbtIcd", "VbtIce"), 403),
        (lambda body: body.replace(f"— {ORIGIN} UgIom", f"— {ORIGIN} UgIon"), 403),
        (lambda body: body.replace("old 0", "old 00"), 400),
        (lambda body: body.replace("old 0", "old -1"), 400),
        (lambda body: body.replace("old 0", "old 99999999999999999999"), 400),
        (lambda body: body.replace("old 0", "old \u0660"), 400),
        (lambda body: body.replace("old 0", "older 0"), 400),
        (lambda body: body.replace("old 0\n", "old 0\r\n"), 400),
        (lambda body: body.replace("old 0\n", "old 0\nAAAA\n"), 400),
        (lambda body: body.replace("old 0\n", "old 0\n" + f"{LEAVES[0]}\n" * 64), 400),
        (lambda body: body.replace("old 0\n", "old 0\n!!!\n"), 400),
        (lambda body: body.replace("\n3\n", "\n03\n"), 400),
        (lambda body: body.replace("\n3\n", "\n4\n"), 403),
        (lambda body: body.replace("\n\n— ", "\n— "), 400),
        (lambda body: body.rstrip("\n"), 400),
        (lambda body: body.replace("=\n\n", "=\n\x00\n\n"), 400),
        (lambda body: body + "— x\n", 400),
        (lambda body: "", 400),
        (lambda body: "old 0\n\n", 400),
        (lambda body: body + "x" * BODY_LIMIT + "\n", 400),
    ],
)
def test_a_hostile_body_is_refused(witness: Witness, change: object, status: int) -> None:
    body = change(request(0, 3).decode())  # type: ignore[operator]
    assert witness.add_checkpoint(body.encode()).status == status
    assert witness.add_checkpoint(request(0, 3)).status == 200


def test_bytes_that_are_no_text_are_refused(witness: Witness) -> None:
    assert witness.add_checkpoint(b"\xff" + request(0, 3)).status == 400


def test_signatures_of_strangers_are_ignored_and_not_kept(witness: Witness) -> None:
    body = request(0, 3) + f"— stranger.example {SIGNATURES[1]}\n".encode()
    assert witness.add_checkpoint(body).status == 200
    kept = witness.checkpoint(origin_hash(ORIGIN))
    assert kept.status == 200
    assert "stranger" not in kept.body
    assert kept.body.startswith(note(3))
    assert cosigned(kept.body, [NAME]) == {NAME: NOW}


def test_what_was_never_cosigned_is_not_there(witness: Witness) -> None:
    for name in (origin_hash(ORIGIN), origin_hash("other"), "../witness.key", ""):
        assert witness.checkpoint(name).status == 404


def test_the_state_outlives_the_process(tmp_path: Path) -> None:
    assert made(LocalObjects(tmp_path)).add_checkpoint(request(0, 5)).status == 200
    assert made(LocalObjects(tmp_path)).add_checkpoint(request(0, 3)) == Answer(409, "5\n", SIZE_TYPE)


class Slow(MemoryObjects):
    """Two requests read the state before either writes it."""

    gate: threading.Barrier | None = None

    def versioned(self, name: str) -> tuple[bytes, str]:
        try:
            return super().versioned(name)
        finally:
            if self.gate is not None and threading.current_thread().name.startswith("racing"):
                self.gate.wait(10)
                self.gate = None


def test_of_two_requests_at_once_one_is_refused() -> None:
    objects = Slow()
    witness = made(objects)
    witness.add_checkpoint(request(0, 1))
    objects.gate = threading.Barrier(2)
    answers: list[Answer] = []
    threads = [
        threading.Thread(target=lambda size=size: answers.append(witness.add_checkpoint(request(1, size))))
        for size in (3, 5)
    ]
    for number, thread in enumerate(threads):
        thread.name = f"racing-{number}"
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status for answer in answers) == [200, 409]
    refused = next(answer for answer in answers if answer.status == 409)
    assert refused.body.strip() == witness.add_checkpoint(request(0, 1)).body.strip()


class Full(MemoryObjects):
    def swap(self, name: str, data: object, expected: str | None) -> str:
        raise StorageError("the disk is full")


def test_what_cannot_be_kept_is_not_cosigned() -> None:
    answer = made(Full()).add_checkpoint(request(0, 3))
    assert answer.status == 503
    assert "—" not in answer.body


@pytest.mark.parametrize("when", [0, 1 << 63])
def test_a_cosignature_without_a_time_is_refused(when: int) -> None:
    text = f"{ORIGIN}\n1\n{ROOTS[1]}\n"
    with pytest.raises(IntegrityError):
        cosigned(f"{text}\n{cosign(text, NAME, SIGNER.sign, when)}", [NAME])


def test_a_cosignature_of_another_head_is_refused() -> None:
    line = cosign(f"{ORIGIN}\n1\n{ROOTS[1]}\n", NAME, SIGNER.sign, NOW)
    with pytest.raises(IntegrityError):
        cosigned(note(3) + line, [NAME])
    other = WitnessKey("other.example", NAME.public_key)
    assert cosigned(note(3) + line, [other]) == {}
