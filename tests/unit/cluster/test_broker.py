"""What is lent to a worker opens there and nowhere else; what comes back opens here and nowhere else."""

from __future__ import annotations

import re
import secrets
from functools import partial
from typing import Any

import pytest
from cluster_support import FakeClient, double, overwrite, put

import voxelvault as vv
from voxelvault.cluster import worker as room
from voxelvault.cluster.broker import Broker
from voxelvault.cluster.worker import FAMILY, REFUSED, SEALED, forget, introduce, perform
from voxelvault.crew import Unit
from voxelvault.crypto.grants import Grant, family_key, open_lent, open_reply, seal_grant, seal_reply
from voxelvault.crypto.hybrid import PrivateKey, seal_to
from voxelvault.errors import IntegrityError, KeyUnavailable, PolicyDenied, StorageError, UsageError
from voxelvault.model import new_id


@pytest.fixture
def broker(vault: vv.Vault, client: FakeClient) -> Broker:
    made = Broker(vault.resources, client)
    made.refresh()
    return made


def done(broker: Broker, unit: Unit) -> Any:
    parcel = broker.parcel(unit, next(iter(broker.workers.values())))
    return broker.opened(parcel, perform(broker.session, parcel.sealed))


def test_work_is_done_and_answered(broker: Broker) -> None:
    assert done(broker, Unit("double", double, 21)) == 42


def test_what_travels_shows_nothing(broker: Broker) -> None:
    key, words = secrets.token_bytes(32), "Doe^Jane /data/ward-7"
    unit = Unit("double", double, words, {new_id(): key}, writes=True)
    parcel = broker.parcel(unit, next(iter(broker.workers.values())))
    answer = perform(broker.session, parcel.sealed)
    for data in (parcel.sealed, answer, repr(parcel).encode(), repr(unit).encode(), repr(broker).encode()):
        assert words.encode() not in data
        assert key not in data
        assert key.hex().encode() not in data
    assert broker.opened(parcel, answer) == 2 * words


def test_a_grant_opens_for_its_worker_alone(broker: Broker) -> None:
    parcel = broker.parcel(Unit("double", double, 1), next(iter(broker.workers.values())))
    other = new_id()
    introduce(other)
    assert perform(other, parcel.sealed) == REFUSED + b"KeyUnavailable"
    assert perform(new_id(), parcel.sealed) == REFUSED + b"KeyError"
    broker.close()
    assert perform(broker.session, parcel.sealed) == REFUSED + b"KeyError", "the run is over"
    with pytest.raises(IntegrityError, match=r"could not open what was lent to it \(KeyError\)"):
        broker.opened(parcel, REFUSED + b"KeyError")


def test_a_process_keeps_its_key_for_the_run() -> None:
    session = new_id()
    first = introduce(session)
    assert introduce(session) == first
    forget(session)
    assert introduce(session) != first
    forget(session)
    assert session not in room._keys


def test_an_answer_answers_one_grant(broker: Broker) -> None:
    worker = next(iter(broker.workers.values()))
    one, other = (broker.parcel(Unit("double", double, n), worker) for n in (1, 2))
    answer = perform(broker.session, one.sealed)
    with pytest.raises(IntegrityError, match="does not open"):
        broker.opened(other, answer)
    changed = bytearray(answer)
    changed[-1] ^= 1
    with pytest.raises(IntegrityError, match="does not open"):
        broker.opened(one, bytes(changed))
    key = secrets.token_bytes(32)
    sealed = seal_reply(key, one.grant_id, b"rows")
    assert open_reply(key, one.grant_id, sealed) == b"rows"
    with pytest.raises(IntegrityError):
        open_reply(key, one.grant_id, sealed[:20])
    with pytest.raises(IntegrityError):
        open_reply(key, other.grant_id, sealed)
    assert answer.startswith(SEALED)


def test_a_worker_writes_only_with_a_grant_to_write(broker: Broker, vault: vv.Vault) -> None:
    pack_id = new_id()
    keys = {pack_id: secrets.token_bytes(32)}
    with pytest.raises(PolicyDenied, match="no writing"):
        done(broker, Unit("put", put, pack_id, keys))
    ref = done(broker, Unit("put", put, pack_id, keys, writes=True))
    assert vault.resources.sealed.read(ref, keys[pack_id]) == b"frames"
    for writes in (False, True):
        with pytest.raises(PolicyDenied, match="no changes"):
            done(broker, Unit("overwrite", overwrite, None, writes=writes))


def test_the_environment_of_a_worker_opens_no_vault(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in room.SECRETS:
        monkeypatch.setenv(name, "secret")
    introduce(new_id())
    assert not [name for name in room.SECRETS if name in os.environ]


def test_a_worker_that_does_not_see_the_vault_says_so(broker: Broker, vault: vv.Vault) -> None:
    toml = (vault.path / "vault.toml").read_bytes()
    for there in (None, b"another"):
        (vault.path / "vault.toml").unlink()
        if there:
            (vault.path / "vault.toml").write_bytes(there)
        with pytest.raises(StorageError, match="does not see this vault"):
            done(broker, Unit("double", double, 1))
        (vault.path / "vault.toml").write_bytes(toml)
    assert done(broker, Unit("double", double, 1)) == 2


@pytest.mark.parametrize("address", ["tcp://10.0.0.1:8786", "inproc://10.0.0.1/1/1", "ucx://10.0.0.1:1"])
def test_a_cluster_in_clear_is_refused(vault: vv.Vault, client: FakeClient, address: str) -> None:
    client.scheduler = type("scheduler", (), {"address": address})  # type: ignore[misc,assignment]
    with pytest.raises(PolicyDenied, match="without TLS"):
        Broker(vault.resources, client)
    client.scheduler = type("scheduler", (), {"address": "tls://a:1"})  # type: ignore[misc,assignment]
    client.workers[address] = 1
    with pytest.raises(PolicyDenied, match="without TLS"):
        Broker(vault.resources, client).refresh()


@pytest.mark.parametrize("how", ["memory_target_fraction", "memory_spill_fraction", "data"])
def test_workers_that_may_spill_are_refused(vault: vv.Vault, client: FakeClient, how: str) -> None:
    about = client.about["tls://b:1"]
    if how == "data":
        about.data = type("SpillBuffer", (dict,), {})()
    else:
        about.memory_manager = type("manager", (about.memory_manager,), {how: 0.6})  # type: ignore[misc,assignment]
    with pytest.raises(PolicyDenied, match=r"memory\.spill to false.*unsafe_spill=True") as caught:
        Broker(vault.resources, client).refresh()
    assert not re.search("127|tls://b", str(caught.value))
    unsafe = Broker(vault.resources, client, unsafe_spill=True)
    unsafe.refresh()
    assert len(unsafe.workers) == 2


def test_workers_of_another_version_are_refused(
    vault: vv.Vault, client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voxelvault.cluster.broker.own_version", lambda: "99.0")
    with pytest.raises(UsageError, match=r"and this process 99\.0"):
        Broker(vault.resources, client).refresh()


def test_a_worker_without_the_package_is_told(vault: vv.Vault, client: FakeClient) -> None:
    client.run = lambda *_, **__: {"tls://a:1": ModuleNotFoundError("voxelvault")}  # type: ignore[method-assign]
    with pytest.raises(UsageError, match="cannot import voxelvault"):
        Broker(vault.resources, client).refresh()


def test_a_fresh_attempt_has_keys_of_its_own(broker: Broker) -> None:
    worker = next(iter(broker.workers.values()))
    make = partial(Unit, "double", double, 1)
    one, other = (broker.parcel(make(), worker) for _ in range(2))
    assert one.reply_key != other.reply_key
    assert one.grant_id != other.grant_id


def test_a_family_is_joined_for_a_while_and_by_the_one_it_was_sealed_to(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined: list[bytes] = []
    monkeypatch.setattr("voxelvault.cluster.broker.join", lambda _, sealed: joined.append(sealed))
    broker.take_in()
    broker.take_in()
    assert len(joined) == 2, "each worker once"
    assert family_key().seed not in b"".join(joined)
    grant = Grant("a" * 32, "b" * 32, "read", 9e9, {"c" * 32: b"k" * 32})
    other, stranger = PrivateKey.generate(), new_id()
    lent = seal_grant(grant, other.public_key())
    with pytest.raises(KeyUnavailable):
        open_lent(lent, 0.0)
    sealed = seal_to(introduce(stranger), other.seed, FAMILY + stranger.encode())
    with pytest.raises(IntegrityError):
        room.join(broker.session, sealed)
    room.join(stranger, sealed)
    assert open_lent(lent, 0.0) == grant
    forget(stranger)
    with pytest.raises(KeyUnavailable):
        open_lent(lent, 0.0)
