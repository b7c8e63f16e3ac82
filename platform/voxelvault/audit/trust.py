"""Which logs and witnesses are trusted, and how many of the witnesses it takes: a policy file.

References
----------
C2SP tlog-policy: https://c2sp.org/tlog-policy
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from voxelvault.audit.checkpoint import NoteKey
from voxelvault.audit.cosignature import WitnessKey
from voxelvault.errors import IntegrityError, UsageError

K = TypeVar("K", bound=NoteKey)
_NONE = "none"
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class KnownWitness:
    """A witness of the policy.

    Parameters
    ----------
    key : WitnessKey
        What its cosignatures are verified with.
    url : str or None
        Its submission prefix.
    """

    key: WitnessKey
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """So many of these.

    Parameters
    ----------
    least : int
        How many members it takes.
    members : tuple of str
        Names of witnesses and groups.
    """

    least: int
    members: tuple[str, ...]


@dataclass(frozen=True)
class TrustPolicy:
    """A policy.

    Parameters
    ----------
    logs : tuple of NoteKey
        Known logs.
    witnesses : mapping of str to KnownWitness
        By their name in the policy.
    groups : mapping of str to Group
        By name.
    quorum : str
        Witness or group that it takes; `none` for nothing.
    """

    logs: tuple[NoteKey, ...] = ()
    witnesses: Mapping[str, KnownWitness] = field(default_factory=dict)
    groups: Mapping[str, Group] = field(default_factory=dict)
    quorum: str = _NONE

    def satisfied(self, by: Collection[str]) -> bool:
        """Say whether these witnesses, by name, are enough."""
        return self.quorum == _NONE or self._has(self.quorum, by)

    def _has(self, name: str, by: Collection[str]) -> bool:
        group = self.groups.get(name)
        if group is None:
            return name in by
        return sum(self._has(member, by) for member in group.members) >= group.least

    @classmethod
    def parse(cls, text: str) -> TrustPolicy:
        """Read a policy file.

        Raises
        ------
        UsageError
            A line is wrong; the message has its number.
        """
        reading = _Reading()
        for number, line in enumerate(text.split("\n"), 1):
            words = [word for word in re.split(r"[ \t]+", line) if word]
            if words and not words[0].startswith("#"):
                try:
                    if _CONTROL.search(line):
                        raise ValueError("has a control character")
                    reading.take(words)
                except (ValueError, IntegrityError) as error:
                    raise UsageError(f"line {number} of the policy: {error}; correct it") from None
        if reading.quorum is None:
            raise UsageError("the policy names no quorum; end it with a line such as `quorum none`")
        return cls(tuple(reading.logs), reading.witnesses, reading.groups, reading.quorum)


class _Reading:
    def __init__(self) -> None:
        self.logs: list[NoteKey] = []
        self.witnesses: dict[str, KnownWitness] = {}
        self.groups: dict[str, Group] = {}
        self.quorum: str | None = None
        self._keys: set[bytes] = set()
        self._members: set[str] = set()

    def take(self, words: list[str]) -> None:
        match words:
            case ["log", key] | ["log", key, _]:
                self.logs.append(self._once(NoteKey.parse(key)))
            case ["witness", name, key, *url] if len(url) < 2:
                self.witnesses[self._new(name)] = KnownWitness(self._once(WitnessKey.parse(key)), *url)
            case ["group", name, least, _, *_]:
                self.groups[self._new(name)] = self._group(least, words[3:])
            case ["quorum", name] if self.quorum is None and (name == _NONE or self._known(name)):
                self.quorum = name
            case _:
                raise ValueError("is none of log, witness, group and one quorum of what stands above it")

    def _group(self, least: str, members: list[str]) -> Group:
        if not all(map(self._known, members)) or len({*members}) < len(members) or {*members} & self._members:
            raise ValueError("a group has members that stand above it, each in one group only")
        self._members |= {*members}
        few = {"any": "1", "all": str(len(members))}.get(least, least)
        if not re.fullmatch("[1-9][0-9]{0,3}", few, re.ASCII) or int(few) > len(members):
            raise ValueError("a group takes any, all or a number of its members")
        return Group(int(few), tuple(members))

    def _known(self, name: str) -> bool:
        return name in self.witnesses or name in self.groups

    def _new(self, name: str) -> str:
        if name == _NONE or self._known(name):
            raise ValueError("the name is taken")
        return name

    def _once(self, key: K) -> K:
        if key.public_key in self._keys:
            raise ValueError("the key stands there twice")
        self._keys.add(key.public_key)
        return key


__all__ = ["Group", "KnownWitness", "TrustPolicy"]
