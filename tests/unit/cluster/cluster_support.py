"""A Dask client in one process, as far as crews need it: its workers live and die at a word."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from voxelvault.crew import Bench


class Worker:
    """What a worker tells of itself: no thresholds, a plain dictionary."""

    class memory_manager:
        memory_target_fraction: float | bool = False
        memory_spill_fraction: float | bool = False

    def __init__(self) -> None:
        self.data: Any = {}


class FakeFuture:
    def __init__(self, work: Callable[[], bytes] | None, pool: ThreadPoolExecutor) -> None:
        self._future: Future[bytes] = Future() if work is None else pool.submit(work)
        self.cancelled = False

    @property
    def status(self) -> str:
        if self.cancelled:
            return "cancelled"
        return "finished" if self._future.done() else "pending"

    def result(self, timeout: float | None = None) -> bytes:
        return self._future.result(timeout)

    def cancel(self) -> None:
        self.cancelled = True

    def add_done_callback(self, call: Callable[[Any], object]) -> None:
        self._future.add_done_callback(lambda _: call(self))


class FakeClient:
    """Workers by address; those of `dead` take work and never answer, and are gone at the next look."""

    class scheduler:
        address = "tls://127.0.0.1:1"

    def __init__(self, workers: dict[str, int]) -> None:
        self.workers = dict(workers)
        self.dead: set[str] = set()
        self.about = {address: Worker() for address in workers}
        self.given: list[tuple[str, str, bytes]] = []
        self.most = self.under_way = 0
        self._pool = ThreadPoolExecutor(4)

    def nthreads(self) -> dict[str, int]:
        return {address: n for address, n in self.workers.items() if address not in self.dead}

    def run(self, function: Any, *given: Any, workers: list[str], on_error: str) -> dict[str, Any]:
        assert on_error == "return"
        about = function.__code__.co_varnames[:1] == ("dask_worker",)
        return {
            address: function(self.about.setdefault(address, Worker())) if about else function(*given)
            for address in workers
            if address in self.workers
        }

    def submit(self, function: Any, session: str, sealed: bytes, **options: Any) -> FakeFuture:
        (address,) = options["workers"]
        assert not options["allow_other_workers"]
        self.given.append((options["key"], address, sealed))
        self.under_way += 1
        self.most = max(self.most, self.under_way)

        def work() -> bytes:
            done: bytes = function(session, sealed)
            self.under_way -= 1
            return done

        return FakeFuture(None if address in self.dead else work, self._pool)


def double(_bench: Bench, number: int) -> int:
    """Work that returns."""
    return 2 * number


def fail(_bench: Bench, how: str) -> None:
    """Work that raises."""
    from voxelvault.errors import NoSpace

    if how == "ours":
        raise NoSpace("the disk is full: free some")
    raise RuntimeError("Doe^Jane")


def put(bench: Bench, pack_id: str) -> Any:
    """Write an object under a key that was lent."""
    from voxelvault.crypto.streaming_aead import Kind

    return bench.sealed().put(Kind.SHARD, bench.key(pack_id), pack_id, [b"frames"])


def overwrite(bench: Bench, _nothing: None) -> None:
    """Try what no worker may."""
    bench.sealed().objects.replace("vault.toml", b"")
