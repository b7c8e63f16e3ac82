"""Bytes inside Flower's messages: one array of bytes, cut into objects of 5 MiB by Flower itself."""

from __future__ import annotations

from flwr.app import Array, ArrayRecord, Error, Message, RecordDict
from flwr.common.constant import ErrorCode

from voxelvault_fl.errors import fixed_word

_RECORD, _ARRAY, _STYPE = "voxelvault", "message", "voxelvault.bytes"


def wrap(said: bytes) -> RecordDict:
    """Put bytes into what a message of Flower carries."""
    array = Array(dtype="uint8", shape=(len(said),), stype=_STYPE, data=said)
    return RecordDict({_RECORD: ArrayRecord({_ARRAY: array})})


def unwrap(content: RecordDict) -> bytes:
    """Take the bytes out again; nothing is decoded.

    Raises
    ------
    KeyError, TypeError
        It carries something else.
    """
    record = content[_RECORD]
    if not isinstance(record, ArrayRecord):
        raise TypeError("this message carries no bytes of ours")
    return record[_ARRAY].data


def fault_reply(word: str, to: Message) -> Message:
    """Answer a message with one fixed word and nothing else."""
    return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, fixed_word(word)), reply_to=to)


def fault_of(reply: Message) -> str:
    """Return in one word why there is no answer."""
    error = reply.error
    if error.code == ErrorCode.CLIENT_APP_RAISED_EXCEPTION:
        return fixed_word(error.reason)
    return _FAULTS.get(error.code, "failed")


_FAULTS = {
    ErrorCode.NODE_UNAVAILABLE: "disconnected",
    ErrorCode.MESSAGE_UNAVAILABLE: "lost",
    ErrorCode.REPLY_MESSAGE_UNAVAILABLE: "lost",
    ErrorCode.CLIENT_APP_CRASHED: "crashed",
}

__all__ = ["fault_of", "fault_reply", "unwrap", "wrap"]
