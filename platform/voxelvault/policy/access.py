"""Who may do what: a policy decides a request, and `require` turns a no into an error.

A policy decides and does nothing else; the audit entry is the caller's, and comes before the read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from voxelvault.errors import PolicyDenied


@dataclass(frozen=True, slots=True)
class Request:
    """What someone wants to do.

    Parameters
    ----------
    action : str
        The event kind that the audit log would carry, for example `handle.opened`.
    object_ids : tuple of str
        Opaque ids of what it is about; empty for the vault as a whole.
    purpose : str or None
        Code of the purpose of use.
    who : str
        The caller.
    """

    action: str
    object_ids: tuple[str, ...] = ()
    purpose: str | None = None
    who: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """A policy's answer.

    Parameters
    ----------
    allowed : bool
        Whether to go on.
    reason_code : str
        Why, as a code that may stand in the audit log.
    """

    allowed: bool
    reason_code: str


class Policy(Protocol):
    """Whatever decides requests."""

    def decide(self, request: Request) -> Decision:
        """Answer one request; never raises for a request it does not know, but denies it."""


class OwnerPolicy:
    """Whoever holds a key that opens the vault owns it and may do everything."""

    def decide(self, request: Request) -> Decision:
        """Allow it."""
        return Decision(allowed=True, reason_code="owner")


def require(policy: Policy, request: Request) -> Decision:
    """Let a request pass or stop it.

    Parameters
    ----------
    policy : Policy
        Decides.
    request : Request
        What is wanted.

    Returns
    -------
    Decision
        The permission, for the audit entry.

    Raises
    ------
    PolicyDenied
        The policy said no.
    """
    decision = policy.decide(request)
    if not decision.allowed:
        raise PolicyDenied(
            f"the policy denied {request.action} ({decision.reason_code}); ask the vault's owner for access"
        )
    return decision
