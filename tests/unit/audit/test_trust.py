"""Policy files: the specification's example, and lines that are wrong."""

from __future__ import annotations

import pytest

from voxelvault.audit.checkpoint import NoteKey
from voxelvault.audit.cosignature import WitnessKey
from voxelvault.audit.trust import TrustPolicy
from voxelvault.errors import UsageError


def key(number: int) -> str:
    return str(WitnessKey(f"w{number}.example", bytes([number]) * 32))


LOG = str(NoteKey("log.example", bytes(32)))
EXAMPLE = f"""# two levels of groups
log {LOG}

witness X1 {key(1)}
witness X2 {key(2)} https://x2.example/prefix
\twitness X3   {key(3)}
group X-witnesses 2 X1 X2 X3

witness Y1 {key(4)}
witness Y2 {key(5)}
witness Y3 {key(6)}
group Y-witnesses any Y1 Y2 Y3

group X-and-Y all X-witnesses Y-witnesses
quorum X-and-Y
"""


def test_the_example_of_the_specification() -> None:
    policy = TrustPolicy.parse(EXAMPLE)
    assert [str(log) for log in policy.logs] == [LOG]
    assert policy.witnesses["X2"].url == "https://x2.example/prefix"
    assert policy.witnesses["X1"].url is None
    assert policy.satisfied({"X1", "X3", "Y2"})
    assert not policy.satisfied({"X1", "Y2", "Y3"})
    assert not policy.satisfied({"X1", "X2", "X3"})
    assert not policy.satisfied(set())


def test_no_quorum_asks_for_nothing() -> None:
    assert TrustPolicy.parse("quorum none\n").satisfied(set())


@pytest.mark.parametrize(
    "text",
    [
        "",
        EXAMPLE.replace("quorum X-and-Y\n", ""),
        EXAMPLE + "quorum X1\n",
        EXAMPLE.replace("quorum X-and-Y", "quorum nobody"),
        EXAMPLE.replace("group X-witnesses 2", "group X-witnesses 4"),
        EXAMPLE.replace("group X-witnesses 2", "group X-witnesses 0"),
        EXAMPLE.replace("group X-witnesses 2", "group X-witnesses +2"),
        EXAMPLE.replace("group X-witnesses 2", "group none 2"),
        EXAMPLE.replace("any Y1 Y2 Y3", "any Y1 Y2 Y2"),
        EXAMPLE.replace("any Y1 Y2 Y3", "any Y1 Y2 X1"),
        EXAMPLE.replace("any Y1 Y2 Y3", "any Y1 Y2 later"),
        EXAMPLE.replace("any Y1 Y2 Y3", "any"),
        EXAMPLE.replace(key(2), key(1)),
        EXAMPLE.replace(key(2), key(2)[:-4]),
        EXAMPLE.replace(key(2), LOG),
        EXAMPLE.replace(LOG, key(9)),
        EXAMPLE.replace("witness Y1", "witness X1"),
        EXAMPLE.replace("witness Y1", "witnesses Y1"),
        EXAMPLE.replace("quorum", "\x00quorum"),
    ],
)
def test_a_wrong_line_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"line \d+ of the policy|names no quorum"):
        TrustPolicy.parse(text)
