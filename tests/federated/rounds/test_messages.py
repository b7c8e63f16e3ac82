"""Messages are bytes that only their sender can make, and hold arrays and plain data."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from voxelvault_fl.errors import MessageRefused
from voxelvault_fl.jobs.task import weights_digest
from voxelvault_fl.rounds.messages import _DOMAIN, Message, pack, unpack

KEY = Ed25519PrivateKey.generate()
MOST = 1 << 16


def message(**more: object) -> Message:
    weights = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros(1, np.float32)}
    said = {"kind": "train", "job": "a" * 64, "round": 2, "site": "north", "turn": 7, "sender": "north"}
    return Message(**{**said, "said": {"examples": 40}, "weights": weights, **more})  # type: ignore[arg-type]


def test_a_message_comes_back_as_it_was() -> None:
    came = unpack(pack(message(), KEY), KEY.public_key(), MOST)
    assert (came.kind, came.round, came.turn, came.said) == ("train", 2, 7, {"examples": 40})
    assert weights_digest(came.weights) == weights_digest(message().weights)


@pytest.mark.parametrize("at", [3, 40, -5])
def test_a_changed_byte_is_refused(at: int) -> None:
    data = bytearray(pack(message(), KEY))
    data[at] ^= 1
    with pytest.raises(MessageRefused):
        unpack(bytes(data), KEY.public_key(), MOST)


def test_another_sender_is_refused() -> None:
    data = pack(message(), Ed25519PrivateKey.generate())
    with pytest.raises(MessageRefused) as refused:
        unpack(data, KEY.public_key(), MOST)
    assert refused.value.rule == "signature"


def test_a_larger_body_than_the_model_is_refused_unread() -> None:
    with pytest.raises(MessageRefused) as refused:
        unpack(pack(message(), KEY), KEY.public_key(), 10)
    assert refused.value.rule == "size"


@pytest.mark.parametrize("data", [b"", b"vvfl1\n", b"vvfl1\n\xff\xff\xff\xff" + b"0" * 100, pickle.dumps({})])
def test_what_is_no_message(data: bytes) -> None:
    with pytest.raises(MessageRefused):
        unpack(data, KEY.public_key(), MOST)


def test_an_unknown_kind_is_refused_though_signed() -> None:
    with pytest.raises(MessageRefused):
        unpack(pack(message(kind="run"), KEY), KEY.public_key(), MOST)


def test_the_digest_of_weights_depends_on_names_types_and_shapes() -> None:
    plain = {"w": np.zeros(4, np.float32)}
    others = [
        {"v": np.zeros(4, np.float32)},
        {"w": np.zeros(4, np.float64)},
        {"w": np.zeros((2, 2), np.float32)},
        {"w": np.ones(4, np.float32)},
    ]
    assert weights_digest(plain) == weights_digest({"w": np.zeros(4, ">f4")})
    assert len({weights_digest(one) for one in [plain, *others]}) == 5


def _said(text: str) -> bytes:
    """Return a signed message whose head isn't what `pack` writes: its sender may be hostile."""
    data = pack(message(weights={}, said={"x": 1}), KEY)
    length = int.from_bytes(data[6:10], "big")
    head = data[10 : 10 + length].replace(b'{"x":1}', text.encode())
    return b"vvfl1\n" + len(head).to_bytes(4, "big") + head + KEY.sign(_DOMAIN + head)


@pytest.mark.parametrize(
    "text",
    [
        '{"x":NaN}',
        '{"x":1e999}',
        '{"x":1,"x":2}',
        '{"x": 1}',
        '{"x":"\\ud800"}',
        '{"x":' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"x":' + "9" * 10_000 + "}",
    ],
)
def test_a_head_that_says_one_thing_in_two_ways_or_cannot_be_written_again_is_refused(text: str) -> None:
    with pytest.raises(MessageRefused) as refused:
        unpack(_said(text), KEY.public_key(), MOST)
    assert refused.value.rule == "malformed"
