"""Loans: what they open, where, for how long, and what their pickle gives away."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from lending_support import failure, modules, read_stack, secrets_left

import voxelvault as vv
from voxelvault.crypto.streaming_aead import Kind
from voxelvault.errors import (
    ForkedProcess,
    GrantExpired,
    IntegrityError,
    KeyUnavailable,
    PolicyDenied,
    UsageError,
)
from voxelvault.reading import lending
from voxelvault.reading.handles import Handle
from voxelvault.reading.lending import Loan, lend
from voxelvault.reading.many import find_series
from voxelvault.testing.synthetic import PLANTED


@pytest.fixture(scope="module")
def workers() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        yield executor


@pytest.fixture
def lent(vault: vv.Vault, uids: dict[str, str]) -> tuple[Loan, Handle, list[dict[str, Any]]]:
    opened = find_series(vault.resources, uids["CT"])
    rows = [dict(row) for row in opened.pack_rows()]
    return lend(vault.resources, opened.handle, rows, b"plan", {"e" * 32: b"k" * 32}), opened.handle, rows


def test_a_worker_reads_what_was_lent_and_no_more(
    vault: vv.Vault, uids: dict[str, str], lent: Any, workers: ProcessPoolExecutor
) -> None:
    loan, _, rows = lent
    with vault.series(uids["CT"]) as series:
        want = series.load(units="stored")
    found = workers.submit(read_stack, loan, rows[0]["pack_id"], want.shape, want.dtype.str).result()
    assert sorted(map(bytes, found)) == sorted(map(bytes, want))
    other = find_series(vault.resources, uids["MR"]).pack_rows()[0]["pack_id"]
    with pytest.raises(IntegrityError, match="was not lent"):
        workers.submit(read_stack, loan, other, want.shape, want.dtype.str).result()


def test_a_worker_imports_little_and_forgets_the_secrets(lent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VOXELVAULT_KEY", "VOXELVAULT_PASSPHRASE", "VOXELVAULT_PKCS11_PIN", "VAULT_TOKEN"):
        monkeypatch.setenv(name, "planted")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
        assert fresh.submit(secrets_left, lent[0]).result() == []
        assert fresh.submit(modules, lent[0]).result() == []
    lent[0].open()
    assert os.environ["VOXELVAULT_KEY"] == "planted", "the lender's own environment stays"


def test_the_lending_room_imports_fast() -> None:
    code = "import sys, voxelvault.reading.lending; print({'duckdb','pyarrow','pandas'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_the_pickle_gives_nothing_away(vault: vv.Vault, uids: dict[str, str], lent: Any) -> None:
    loan, _, rows = lent
    data = pickle.dumps(loan)
    assert len(data) < 10_000
    opened = loan.open()
    keys = [opened.key(rows[0]["pack_id"]), opened.key(rows[0]["key_id"]), b"k" * 32]
    for word in [*keys, b"plan", uids["CT"].encode(), str(vault.path).encode(), rows[0]["pack_id"].encode()]:
        assert word not in data
        assert word.hex().encode() not in data
    for planted in PLANTED:
        assert str(planted).encode() not in data
    assert pickle.loads(data) == loan
    assert "sealed" not in repr(loan)
    for thing in (opened, lent[1]):
        with pytest.raises(TypeError, match=r"pickled|stays in its process"):
            pickle.dumps(thing)


def test_a_pickle_on_disk_opens_in_no_other_family(lent: Any, tmp_path: Path) -> None:
    (tmp_path / "loan").write_bytes(pickle.dumps(lent[0]))
    code = (
        "import pickle, sys\nfrom voxelvault.errors import KeyUnavailable\n"
        "try: pickle.load(open(sys.argv[1], 'rb')).open()\n"
        "except KeyUnavailable as error: print('refused', error)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "loan")], capture_output=True, text=True, check=True
    )
    assert found.stdout.startswith("refused this was lent to other processes")


def test_opened_once_a_process_with_keys_and_payload(lent: Any) -> None:
    loan, handle, rows = lent
    opened = pickle.loads(pickle.dumps(loan)).open()
    assert opened is loan.open()
    assert (opened.payload, opened.key("e" * 32), opened.mode) == (b"plan", b"k" * 32, "read")
    assert opened.once("list", lambda _: []) is opened.once("list", lambda _: [1])
    assert opened.packs.reader(rows[0]["pack_id"]).manifest.pack_id == rows[0]["pack_id"]
    with pytest.raises(KeyUnavailable, match="was not lent"):
        opened.key("f" * 32)
    opened.count(3, 100)
    assert (handle.frames, handle.bytes) == (3, 100)


def test_time_ends_a_loan_that_is_open(lent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = lent[0].open()
    later = time.time() + lending.LIFETIME
    monkeypatch.setattr(lending.time, "time", lambda: later)
    for use in (lent[0].open, opened.check, opened.sealed, lambda: opened.key("e" * 32)):
        with pytest.raises(GrantExpired):
            use()


def test_expiry_and_ids_of_the_value_are_not_believed(lent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    loan = lent[0]
    forged = Loan(loan.vault_id, "9" * 32, 9e12, loan.sealed)
    with pytest.raises(IntegrityError, match="another"):
        forged.open()
    later = time.time() + lending.LIFETIME
    monkeypatch.setattr(lending.time, "time", lambda: later)
    with pytest.raises(GrantExpired):
        Loan(loan.vault_id, loan.grant_id, 9e12, loan.sealed).open()


def test_closing_the_handle_ends_it_here_and_names_the_grant(vault: vv.Vault, lent: Any) -> None:
    loan, handle, rows = lent
    opened = loan.open()
    handle.close()
    for use in (loan.open, opened.check):
        with pytest.raises(PolicyDenied, match="closed"):
            use()
    with pytest.raises(PolicyDenied, match="closed"):
        lend(vault.resources, handle, rows)
    last = list(vault.resources.audit.entries())[-1]
    assert loan.grant_id in str(last)


def test_a_loan_ends_with_its_handle_also_when_that_is_forgotten(
    vault: vv.Vault, uids: dict[str, str], workers: ProcessPoolExecutor
) -> None:
    opened = find_series(vault.resources, uids["CT"])
    loan = lend(vault.resources, opened.handle, opened.pack_rows())
    opened.close()
    del opened
    gc.collect()
    with pytest.raises(PolicyDenied, match="closed"):
        loan.open()
    assert workers.submit(failure, loan).result() == "", "workers never learn of it"


def test_a_closed_handle_takes_no_grant(lent: Any) -> None:
    _, handle, _ = lent
    handle.close()
    with pytest.raises(PolicyDenied, match="closed"):
        handle.lent("a" * 32, lambda: None)


def test_a_loan_to_read_writes_nothing(vault: vv.Vault, lent: Any) -> None:
    loan, handle, rows = lent
    for area in ("objects", "derived"):
        sealed = loan.open().sealed(area)
        with pytest.raises(PolicyDenied, match="no writing"):
            sealed.put(Kind.DERIVED, b"k" * 32, "a" * 32, [b"x"])
    to_write = lend(vault.resources, handle, rows, mode="write", extra_keys={"a" * 32: b"k" * 32}).open()
    ref = to_write.sealed("derived").put(Kind.DERIVED, to_write.key("a" * 32), "a" * 32, [b"brick"])
    assert to_write.sealed("derived").read(ref, b"k" * 32) == b"brick"
    with pytest.raises(PolicyDenied):
        to_write.sealed().put(Kind.DERIVED, b"k" * 32, "a" * 32, [b"x"])
    with pytest.raises(PolicyDenied):
        to_write.sealed("derived").delete(ref.object_id)
    with pytest.raises(PolicyDenied):
        to_write.sealed().objects.replace("vault.toml", b"")


def test_a_swapped_manifest_is_noticed(lent: Any, vault: vv.Vault) -> None:
    loan, _, rows = lent
    (path,) = (vault.path / "objects").rglob(rows[0]["manifest_object_id"])
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)
    with pytest.raises(IntegrityError):
        loan.open().packs.reader(rows[0]["pack_id"])


def test_a_vault_that_is_in_no_folder_is_not_lent(vault: vv.Vault, lent: Any) -> None:
    from dataclasses import replace

    from voxelvault.storage.objects import MemoryObjects

    with pytest.raises(UsageError, match="num_workers=0"):
        lend(replace(vault.resources, objects=MemoryObjects()), lent[1], [])


def test_a_forked_child_is_told_at_once(lent: Any) -> None:
    loan, handle, _ = lent
    opened = loan.open()
    for thing in (loan.open, opened.check, handle.check, pickle.loads(pickle.dumps(loan)).open):
        assert _in_fork(thing) == "ForkedProcess"


def test_a_loan_that_a_forked_child_unpickles_is_refused_too(lent: Any) -> None:
    data = pickle.dumps(lent[0])
    assert _in_fork(lambda: pickle.loads(data).open()) == "ForkedProcess"


def test_workers_of_a_fork_server_read(lent: Any) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["voxelvault.reading.lending", "lending_support"])
    with ProcessPoolExecutor(1, context) as executor:
        assert executor.submit(failure, lent[0]).result() == ""


def _in_fork(use: Any) -> str:
    """Return the name of the error that a call raises in a forked child."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            use()
            os.write(write, b"nothing")
        except ForkedProcess:
            os.write(write, b"ForkedProcess")
        except BaseException as error:
            os.write(write, repr(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with open(read, "rb") as pipe:
        return pipe.read().decode()
