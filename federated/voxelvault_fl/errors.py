"""Every failure of the federated part, below the errors of voxelvault.

::

    FederatedError
    ├── ConsortiumRefused      consortium.yaml says something that can't be
    ├── KitRefused             a kit, a request or a reply is incomplete, or not for this party
    │   └── Expired            a certificate is no longer valid
    ├── RosterForged           the roster is not what the consortium's authority signed
    ├── JobRefused             a job that is malformed or not allowed; `rule` names which rule
    ├── MessageRefused         a message that isn't what this round expects; `rule` names why
    ├── SetAside               a site's update that is left out of a round; `rule` names why
    ├── ProcessFailed          a process of the server or of a site did not start or did not stay
    └── StrangeSuperLink       the SuperLink runs with options under which the promises don't hold

Messages are one line, say what to do next and name nobody. A rule is a fixed word: it may leave a
site; the message of an error doesn't.
"""

from __future__ import annotations

import re

from voxelvault.errors import IntegrityError, UsageError, VoxelVaultError

_WORD = re.compile(r"[a-z][a-z-]{0,39}")


def fixed_word(said: object) -> str:
    """Return the word if it is one, `failed` otherwise: no text that an exception made goes through."""
    return said if isinstance(said, str) and _WORD.fullmatch(said) else "failed"


class FederatedError(VoxelVaultError):
    """Root of the federated part."""


class ConsortiumRefused(FederatedError, UsageError):
    """The consortium's file says something that can't be."""


class KitRefused(FederatedError, UsageError):
    """A kit, a request or a reply is incomplete, or not for this party."""


class Expired(KitRefused):
    """A certificate is no longer valid."""


class RosterForged(FederatedError, IntegrityError):
    """The roster is not what the consortium's authority signed."""


class _Ruled(FederatedError):
    def __init__(self, rule: str, message: str) -> None:
        super().__init__(f"{message} [{rule}]")
        self.rule = rule


class JobRefused(_Ruled):
    """The job is malformed, not signed by the lead, or not allowed here."""


class MessageRefused(_Ruled):
    """The message isn't signed by who should, was used before, or belongs elsewhere."""


class SetAside(_Ruled):
    """The update is left out of the round."""


class ProcessFailed(FederatedError):
    """A process of the server or of a site did not start or did not stay."""


class StrangeSuperLink(FederatedError):
    """The SuperLink runs with options under which the promises don't hold."""


__all__ = [
    "ConsortiumRefused",
    "Expired",
    "FederatedError",
    "JobRefused",
    "KitRefused",
    "MessageRefused",
    "ProcessFailed",
    "RosterForged",
    "SetAside",
    "StrangeSuperLink",
]
