"""Signed notes and checkpoints, against published ones."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from voxelvault.audit.checkpoint import Checkpoint, NoteKey, open_checkpoint, open_note, sign_note
from voxelvault.errors import IntegrityError

# The example of golang.org/x/mod/sumdb/note, the first implementation of signed notes.
NEUMANN = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
NOTE = """If you think cryptography is the answer to your problem,
then you don't know what your problem is.

— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=
"""

SIGNER = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEY = NoteKey("voxelvault/00", SIGNER.public_key().public_bytes_raw())
HEAD = Checkpoint("voxelvault/00", 20852163, bytes(range(32)))


def test_the_published_note_opens() -> None:
    assert open_note(NOTE, NoteKey.parse(NEUMANN)) == NOTE.partition("\n\n")[0] + "\n"


@pytest.mark.parametrize(
    "note",
    [
        NOTE.replace("problem is", "problem was"),
        NOTE.replace("x08go/ZJ", "x08go/ZK"),
        NOTE.replace("PeterNeumann ", "PaulNeumann "),
        NOTE.replace("— ", "- "),
        NOTE.replace("JnAM=", "JnAM"),
        NOTE.rstrip("\n"),
        NOTE.partition("\n\n")[0],
        NOTE + "x" * (1 << 17) + "\n",
        "",
    ],
)
def test_a_changed_note_is_refused(note: str) -> None:
    with pytest.raises(IntegrityError):
        open_note(note, NoteKey.parse(NEUMANN))


def test_a_verifier_key_is_written_as_it_was_read() -> None:
    assert str(NoteKey.parse(NEUMANN)) == NEUMANN


@pytest.mark.parametrize(
    "text",
    [
        NEUMANN.replace("c74f", "c74e"),
        NEUMANN[:-1],
        "",
        NEUMANN.replace("W", "X"),
        str(NoteKey("two words", bytes(32))),
        str(NoteKey("", bytes(32))),
        str(NoteKey("a+b", bytes(32))),
    ],
)
def test_a_mistyped_verifier_key_is_refused(text: str) -> None:
    with pytest.raises(IntegrityError):
        NoteKey.parse(text)


def test_a_checkpoint_has_the_bytes_of_the_specification() -> None:
    assert HEAD.text == "voxelvault/00\n20852163\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"


def test_a_signed_checkpoint_opens() -> None:
    note = sign_note(HEAD.text, KEY, SIGNER.sign)
    assert note.startswith(HEAD.text + "\n— voxelvault/00 ")
    assert open_checkpoint(note, KEY) == HEAD


def test_cosignatures_of_others_and_extension_lines_are_ignored() -> None:
    other = Ed25519PrivateKey.generate()
    witness = NoteKey("witness.example", other.public_key().public_bytes_raw())
    text = HEAD.text + "extension\n"
    note = sign_note(text, KEY, SIGNER.sign) + sign_note(text, witness, other.sign).partition("\n\n")[2]
    assert open_checkpoint(note, KEY) == open_checkpoint(note, witness_named_as_log(witness, note)) == HEAD


def witness_named_as_log(witness: NoteKey, note: str) -> NoteKey:
    """A key that did not sign under the log's name must not open its checkpoint."""
    with pytest.raises(IntegrityError, match="another log"):
        open_checkpoint(note, NoteKey(KEY.name, witness.public_key))
    with pytest.raises(IntegrityError, match="another log"):
        open_checkpoint(note, witness)
    return KEY


@pytest.mark.parametrize(
    "text",
    [
        "",
        "origin\n1\n",
        "\n1\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
        HEAD.text.replace("2085", "02085"),
        HEAD.text.replace("2085", "-2085"),
        HEAD.text.replace("2085", "٢085"),
        HEAD.text.replace("20852163", "9" * 5000),
        HEAD.text.replace("AAEC", "AAE"),
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(IntegrityError, match="not a checkpoint"):
        Checkpoint.parse(text)
