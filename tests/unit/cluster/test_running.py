"""Units of work on workers that come and go."""

from __future__ import annotations

from functools import partial

import pytest
from cluster_support import FakeClient, double, fail

import voxelvault as vv
from voxelvault.cluster.broker import Broker
from voxelvault.cluster.entering import crew_of
from voxelvault.cluster.running import AHEAD, TRIES, ClientCrew
from voxelvault.cluster.worker import forget
from voxelvault.crew import Unit
from voxelvault.errors import NoSpace, UsageError, VoxelVaultError, WorkerDied
from voxelvault.model import new_id


def crew(vault: vv.Vault, client: FakeClient, patience: float = 0.2) -> ClientCrew:
    return ClientCrew(Broker(vault.resources, client), client, patience)


def units(count: int) -> list[partial[Unit]]:
    return [partial(Unit, "double", double, number) for number in range(count)]


def test_everything_is_done_once_and_told_which(vault: vv.Vault, client: FakeClient) -> None:
    made = crew(vault, client)
    assert made.hands == 2
    found = {done.number: done.result for done in made.run(units(20))}
    assert found == {number: 2 * number for number in range(20)}
    assert {address for _, address, _ in client.given} == {"tls://a:1", "tls://b:1"}
    assert all(key.startswith("double-") for key, _, _ in client.given)
    assert len({key for key, _, _ in client.given}) == 20


def test_an_address_that_is_no_schedulers_is_told_what_one_is(vault: vv.Vault) -> None:
    with pytest.raises(UsageError, match="those of a scheduler"), crew_of(vault.resources, "http://a"):
        pass


def test_few_are_under_way_and_made_late(vault: vv.Vault, client: FakeClient) -> None:
    made = [0]

    def maker(number: int) -> Unit:
        made[0] += 1
        return Unit("double", double, number)

    for count, _ in enumerate(crew(vault, client).run(partial(maker, n) for n in range(30)), 1):
        assert made[0] <= count + 2 * (1 + AHEAD)
    assert client.most <= 2 * (1 + AHEAD)


def test_the_work_of_a_dead_worker_is_made_anew_for_others(vault: vv.Vault, client: FakeClient) -> None:
    attempts: dict[int, list[str]] = {}

    def maker(number: int) -> Unit:
        attempts.setdefault(number, []).append(new_id())
        return Unit("double", double, number, {attempts[number][-1]: b"k" * 32}, writes=True)

    found = {}
    made = crew(vault, client)
    for done in made.run(partial(maker, number) for number in range(8)):
        client.dead.add("tls://a:1")
        found[done.number] = done.result
        assert list(done.unit.keys) == attempts[done.number][-1:], "the attempt that counts is the last"
    assert found == {number: 2 * number for number in range(8)}
    assert max(map(len, attempts.values())) == 2
    assert len({attempt for some in attempts.values() for attempt in some}) > 8
    assert made.hands == 1


def test_what_kills_every_worker_is_given_up_and_the_rest_goes_on(
    vault: vv.Vault, client: FakeClient
) -> None:
    for number in range(TRIES):
        client.workers[f"tls://{number}:1"] = 1
    deadly: list[str] = []
    submit = client.submit

    def kills(function: object, session: str, sealed: bytes, **options: object) -> object:
        if len(sealed) > 1 << 16:
            (address,) = options["workers"]  # type: ignore[misc]
            client.dead.add(address)
            deadly.append(address)
        return submit(function, session, sealed, **options)

    client.submit = kills  # type: ignore[method-assign,assignment]
    makers = units(6)
    noise = "".join(new_id() for _ in range(1 << 13))
    makers[2] = partial(Unit, "double", double, noise)
    found = {done.number: done for done in crew(vault, client).run(makers)}
    assert sorted(found) == list(range(6))
    assert [number for number, done in found.items() if done.lost] == [2]
    assert len(deadly) == TRIES


def test_what_only_waits_behind_a_killer_is_not_blamed(vault: vv.Vault) -> None:
    broker = Broker(vault.resources, client := FakeClient({"tls://0:1": 1, "tls://1:2": 2}))
    made = ClientCrew(broker, client, 0.2)
    parcels = [
        broker.parcel(units(1)[0](), broker.workers[address])
        for address in ("tls://0:1", "tls://1:2", "tls://0:1", "tls://1:2", "tls://1:2")
    ]
    made._running = {number: (None, parcel) for number, parcel in enumerate(parcels)}  # type: ignore[assignment,misc]
    assert list(made._at_work(range(5))) == [0, 1, 3]


def test_a_worker_that_comes_later_helps(vault: vv.Vault, client: FakeClient) -> None:
    made = crew(vault, client)
    for done in made.run(units(40)):
        client.workers["tls://late:1"] = 2
        client.dead |= {"tls://a:1", "tls://b:1"} if done.number > 4 else set()
    assert "tls://late:1" in {address for _, address, _ in client.given}


def test_without_workers_it_says_so(vault: vv.Vault, client: FakeClient) -> None:
    with pytest.raises(WorkerDied, match="no worker of the cluster is left"):
        crew(vault, FakeClient({}))
    made = crew(vault, client)
    client.dead |= {"tls://a:1", "tls://b:1"}
    with pytest.raises(WorkerDied, match="what was stored stays"):
        list(made.run(units(4)))


def test_a_scheduler_that_is_gone_is_told(vault: vv.Vault, client: FakeClient) -> None:
    def gone() -> dict[str, int]:
        raise OSError("Timed out trying to connect to tls://10.0.0.7:8786")

    client.nthreads = gone  # type: ignore[method-assign]
    with pytest.raises(WorkerDied, match="scheduler does not answer") as caught:
        crew(vault, client)
    assert "10.0" not in str(caught.value)


def test_errors_come_back_by_class_and_without_values(vault: vv.Vault, client: FakeClient) -> None:
    with pytest.raises(NoSpace, match=r"^the disk is full: free some$"):
        list(crew(vault, client).run([partial(Unit, "fail", fail, "ours")]))
    with pytest.raises(VoxelVaultError) as caught:
        list(crew(vault, client).run([partial(Unit, "fail", fail, "foreign")]))
    assert str(caught.value) == "a worker failed in an unforeseen way (RuntimeError)"


def test_stop_finishes_what_is_under_way(vault: vv.Vault, client: FakeClient) -> None:
    seen: list[int] = []
    for done in crew(vault, client).run(units(50), lambda: bool(seen)):
        seen.append(done.number)
    assert len(seen) == len(client.given)
    assert 1 <= len(seen) <= 2 * (1 + AHEAD)


def test_leaving_early_takes_the_rest_back(vault: vv.Vault, client: FakeClient) -> None:
    made = crew(vault, client)
    running = made.run(units(50))
    next(running)
    running.close()
    assert not made._running
    assert len(client.given) < 50


def test_an_answer_that_does_not_arrive_is_asked_for_again(vault: vv.Vault, client: FakeClient) -> None:
    """The worker lives, and what it answered can't be fetched: the unit is made anew, not waited for."""
    submit, slow = client.submit, []

    def sticky(*arguments: object, **options: object) -> object:
        future = submit(*arguments, **options)  # type: ignore[arg-type]
        if len(slow) < 2:
            slow.append(future)
            future.result = never  # type: ignore[method-assign]
        return future

    def never(timeout: float | None = None) -> bytes:
        raise TimeoutError

    client.submit = sticky  # type: ignore[method-assign,assignment]
    found = {done.number: done.result for done in crew(vault, client).run(units(6))}
    assert found == {number: 2 * number for number in range(6)}
    assert len(client.given) == 8


def test_a_worker_that_was_started_again_in_its_place_is_another(vault: vv.Vault, client: FakeClient) -> None:
    """It has the address of one that died, and not its key: what was under way is sealed to it anew."""
    made = crew(vault, client)
    forget(made._broker.session)
    found = {done.number: done.result for done in made.run(units(6))}
    assert found == {number: 2 * number for number in range(6)}
    assert len(client.given) > 6
