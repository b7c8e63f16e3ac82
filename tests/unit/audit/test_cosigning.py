"""A log and its witnesses: cosigned, grown, rolled back, forked, and who attests how much."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from few_keys import FewKeys

from voxelvault.audit.cosignature import WitnessKey, cosigned
from voxelvault.audit.cosigning import Cosigning, Post, over_http
from voxelvault.audit.events import Event, Kind
from voxelvault.audit.log import AuditLog
from voxelvault.audit.proof import verify_proof
from voxelvault.audit.trust import TrustPolicy
from voxelvault.audit.witness import SIZE_TYPE, Answer, Witness
from voxelvault.errors import IntegrityError, PolicyDenied, RollbackDetected, Unanswered, UsageError
from voxelvault.storage.objects import LocalObjects, MemoryObjects


def event() -> Event:
    return Event(kind=Kind.VERIFY, who="tester")


class Site:
    """A witness in memory."""

    def __init__(self, name: str, *logs: AuditLog) -> None:
        signer = Ed25519PrivateKey.generate()
        self.key = WitnessKey(name, signer.public_key().public_bytes_raw())
        self.witness = Witness(self.key, signer.sign, [log.key for log in logs], MemoryObjects())

    def post(self, body: bytes) -> Answer:
        return self.witness.add_checkpoint(body)


@pytest.fixture
def cosigning(log: AuditLog, objects: MemoryObjects) -> Cosigning:
    return Cosigning(log, objects)


def test_a_growing_log_is_cosigned_again_and_again(log: AuditLog, cosigning: Cosigning) -> None:
    site = Site("b.example", log)
    assert cosigning.attested(site.key) is None
    for number in range(5):
        log.append([event()] * (number * 60))
        assert cosigning.ask(site.key, site.post).size == log.size
    log.append([event()])
    found = cosigning.attested(site.key)
    assert found is not None
    assert found.size == log.size - 1


def test_a_lost_answer_is_made_good(log: AuditLog, cosigning: Cosigning) -> None:
    site = Site("b.example", log)
    log.append([event()] * 3)
    site.post(cosigning.request(0).body)
    log.append([event()] * 3)
    assert cosigning.ask(site.key, site.post).size == 6


@pytest.fixture
def kept(tmp_path: Path, keys: FewKeys) -> Callable[[str], tuple[AuditLog, Cosigning]]:
    AuditLog.create(LocalObjects(tmp_path / "first"), keys).append([event()] * 4)

    def opened(name: str) -> tuple[AuditLog, Cosigning]:
        if not (tmp_path / name).exists():
            shutil.copytree(tmp_path / "first", tmp_path / name)
        objects = LocalObjects(tmp_path / name)
        log = AuditLog.open(objects, keys)
        return log, Cosigning(log, objects)

    return opened


def test_a_forked_log_gets_no_cosignature(kept: Callable[[str], tuple[AuditLog, Cosigning]]) -> None:
    log, cosigning = kept("a")
    fork, forked = kept("fork")
    site = Site("b.example", log)
    log.append([event()] * 2)
    fork.append([event()] * 5)
    cosigning.ask(site.key, site.post)
    with pytest.raises(RollbackDetected, match="another history"):
        forked.ask(site.key, site.post)
    fork, forked = kept("of-the-same-size")
    fork.append([event()] * 2)
    with pytest.raises(RollbackDetected, match="another history"):
        forked.ask(site.key, site.post)


def test_a_log_that_was_put_back_is_noticed(kept: Callable[[str], tuple[AuditLog, Cosigning]]) -> None:
    old, behind = kept("old")
    log, cosigning = kept("a")
    site = Site("b.example", log)
    log.append([event()] * 2)
    cosigning.ask(site.key, site.post)
    with pytest.raises(RollbackDetected, match="older copy"):
        behind.ask(site.key, site.post)
    assert old.size == 4


def test_a_rewritten_log_does_not_continue_what_is_kept(
    tmp_path: Path, kept: Callable[[str], tuple[AuditLog, Cosigning]]
) -> None:
    fork, forked = kept("fork")
    log, cosigning = kept("a")
    site = Site("b.example", log)
    log.append([event()] * 2)
    cosigning.ask(site.key, site.post)
    fork.append([event()] * 3)
    shutil.copytree(tmp_path / "a/audit/cosigned", tmp_path / "fork/audit/cosigned")
    with pytest.raises(RollbackDetected, match="rewritten"):
        forked.attested(site.key)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(404, "who?"), PolicyDenied),
        (Answer(403, "no"), PolicyDenied),
        (Answer(422, "no"), RollbackDetected),
        (Answer(500, "oops"), Unanswered),
        (Answer(200, "gibberish"), IntegrityError),
        (Answer(200, ""), IntegrityError),
        (Answer(200, "— x AAAAAAAA\n"), IntegrityError),
        (Answer(409, "many\n", SIZE_TYPE), IntegrityError),
        (Answer(409, "0\n", SIZE_TYPE), Unanswered),
        (Answer(409, "1000\n", SIZE_TYPE), RollbackDetected),
    ],
)
def test_a_witness_that_is_not_helpful(
    log: AuditLog, cosigning: Cosigning, answer: Answer, error: type[Exception]
) -> None:
    site = Site("b.example", log)
    log.append([event()])
    with pytest.raises(error):
        cosigning.ask(site.key, lambda body: answer)
    assert cosigning.note_of(site.key) is None


def policy(sites: dict[str, Site], quorum: str) -> TrustPolicy:
    lines = [f"witness {name} {site.key} http://{name}.example/" for name, site in sites.items()]
    return TrustPolicy.parse("\n".join([*lines, f"group G {quorum} {' '.join(sites)}", "quorum G", ""]))


def test_the_quorum_attests_what_its_slowest_member_saw(log: AuditLog, cosigning: Cosigning) -> None:
    sites = {name: Site(name, log) for name in ("a", "b", "c")}
    down: set[str] = set()

    def poster(url: str) -> Post:
        name = url.removeprefix("http://")[0]
        if name in down:
            raise Unanswered("a witness doesn't answer")
        return sites[name].post

    two = policy(sites, "2")
    assert cosigning.proved(two) == (0, {})
    log.append([event()] * 3)
    first = cosigning.gather(two, poster)
    assert first.enough
    assert first.attested.keys() == {"a", "b", "c"}
    down |= {"a", "b"}
    log.append([event()] * 3)
    second = cosigning.gather(two, poster)
    assert (second.enough, second.size, second.failed.keys()) == (False, 6, {"a", "b"})
    size, attested = cosigning.proved(two)
    assert size == 3
    assert {name: one.size for name, one in attested.items()} == {"a": 3, "b": 3, "c": 6}
    assert cosigning.proved(policy(sites, "any"))[0] == 6


def test_a_fork_that_one_witness_sees_stops_all(
    log: AuditLog, cosigning: Cosigning, objects: MemoryObjects
) -> None:
    sites = {name: Site(name, log) for name in ("a", "b")}
    log.append([event()])
    with pytest.raises(RollbackDetected):
        cosigning.gather(
            policy(sites, "any"),
            lambda url: sites["a"].post if "//a" in url else lambda body: Answer(422, ""),
        )


@pytest.mark.parametrize("url", ["ftp://x", "x", "https://", "http://u:p@x/", "http://x/?q=1"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        over_http(url)


def test_a_witness_that_is_not_there() -> None:
    with pytest.raises(Unanswered):
        over_http("http://127.0.0.1:9/")(b"old 0\n\n")


@pytest.mark.parametrize("later", [0, 1, 300])
def test_an_entry_is_proved_by_the_checkpoint_that_was_cosigned(
    log: AuditLog, cosigning: Cosigning, later: int
) -> None:
    site = Site("b.example", log)
    log.append([event()] * 5)
    cosigning.ask(site.key, site.post)
    note = cosigning.note_of(site.key)
    assert note is not None
    log.append([event()] * later)
    for index in range(5):
        proof = log.prove_at(index, note)
        assert verify_proof(proof, log.key).index == index
        assert cosigned(proof["checkpoint"], [site.key]).keys() == {site.key}
    with pytest.raises(UsageError):
        log.prove_at(5, note)
