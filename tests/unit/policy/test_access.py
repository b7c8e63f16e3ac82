"""The owner may do everything; a no stops the caller and names a code."""

from __future__ import annotations

import pytest

from voxelvault.errors import PolicyDenied
from voxelvault.policy.access import Decision, OwnerPolicy, Request, require

REQUEST = Request("handle.opened", ("0" * 32,), "IRB-2031", "someone")


class Deny:
    def decide(self, request: Request) -> Decision:
        return Decision(allowed=False, reason_code="no-purpose")


def test_the_owner_is_allowed() -> None:
    assert require(OwnerPolicy(), REQUEST) == Decision(allowed=True, reason_code="owner")


def test_a_denied_request_stops_and_names_no_object() -> None:
    with pytest.raises(PolicyDenied, match=r"handle\.opened \(no-purpose\)") as caught:
        require(Deny(), REQUEST)
    assert "0" * 32 not in str(caught.value)
