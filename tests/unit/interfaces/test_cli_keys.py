"""`keys`: ways in are added, removed, rotated and recovered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from voxelvault.crypto.providers import passphrase


@pytest.fixture(autouse=True)
def cheap_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    """The floor of Argon2id is enough for a test."""
    defaults = passphrase.PassphraseProvider.slot.__kwdefaults__
    monkeypatch.setitem(defaults, "memory_kib", passphrase.FLOOR_KIB)
    monkeypatch.setattr("voxelvault.upkeep.keys.MEMORY_KIB", passphrase.FLOOR_KIB)
    for name in ("add_passphrase", "recover"):
        import voxelvault.upkeep.keys

        monkeypatch.setitem(
            getattr(voxelvault.upkeep.keys, name).__kwdefaults__, "memory_kib", passphrase.FLOOR_KIB
        )


def slots(run: Any, vault: Path) -> dict[str, str]:
    return {
        slot["provider"]: slot["slot_id"]
        for slot in run("--vault", vault, "keys", "list", "--json").json["slots"]
    }


def test_a_second_key_file_opens_until_it_is_removed(run: Any, vault: Path, tmp_path: Path) -> None:
    key = tmp_path / "usb.key"
    added = run("--vault", vault, "keys", "add", "file", key, "--label", "usb", "--json")
    assert added.code == 0
    assert run("--vault", vault, "--key-file", key, "info").code == 0
    slot = added.json["slot_id"]
    asked = run("--vault", vault, "keys", "remove", slot)
    assert asked.code == 2
    assert "plan:" in asked.err
    assert run("--vault", vault, "keys", "remove", slot, "--dry-run").code == 0
    assert run("--vault", vault, "--key-file", key, "info").code == 0
    assert run("--vault", vault, "keys", "remove", slot, "--yes").code == 0
    assert run("--vault", vault, "--key-file", key, "info").code == 1
    assert run("--vault", vault, "info").code == 0
    assert run("--vault", vault, "keys", "remove", slot, "--yes").code == 2


def test_rotation_keeps_every_way_in(run: Any, tmp_path: Path) -> None:
    vault, words = tmp_path / "v", tmp_path / "words"
    words.write_text("correct horse\nsecond line\n")
    code = run("init", vault, "--json").json["recovery_code"]
    assert run("--vault", vault, "keys", "add", "passphrase", "--new-passphrase-file", words).code == 0
    assert run("--vault", vault, "keys", "rotate").code == 2
    dry = run("--vault", vault, "keys", "rotate", "--dry-run", "--json")
    assert (dry.json["done"], dry.json["generation"]) == (False, 1)
    assert run("--vault", vault, "keys", "rotate", "--yes", "--json").json["generation"] == 2
    missing = tmp_path / "none.key"
    assert run("--vault", vault, "--key-file", missing, "--passphrase-file", words, "info").code == 0
    (tmp_path / "code").write_text(code)
    recovered = run(
        "--vault", vault, "--key-file", missing, "keys", "recover", "--code-file", tmp_path / "code"
    )
    assert recovered.code == 0
    kinds = [entry["kind"] for entry in run("--vault", vault, "audit", "log", "--json").json]
    assert {"slot.added", "keys.rotated"} <= set(kinds)


def test_recover_makes_a_key_and_a_code_and_the_old_code_is_dead(
    run: Any, tmp_path: Path, configuration: Path
) -> None:
    vault = tmp_path / "v"
    made = run("init", vault, "--json").json
    Path(made["key_file"]).unlink()
    assert run("--vault", vault, "info").code == 1
    code = tmp_path / "code"
    code.write_text(made["recovery_code"].lower())
    done = run("--vault", vault, "keys", "recover", "--code-file", code, "--json")
    assert done.code == 0
    assert run("--vault", vault, "info").code == 0
    other = tmp_path / "other.key"
    old = run("--vault", vault, "--key-file", other, "keys", "recover", "--code-file", code)
    assert old.code == 1
    code.write_text(done.json["recovery_code"])
    assert run("--vault", vault, "--key-file", other, "keys", "recover", "--code-file", code).code == 0


def test_recover_works_beside_a_damaged_key_file(run: Any, tmp_path: Path) -> None:
    vault = tmp_path / "v"
    made = run("init", vault, "--json").json
    Path(made["key_file"]).write_text("rubbish")
    code = tmp_path / "code"
    code.write_text(made["recovery_code"])
    refused = run("--vault", vault, "keys", "recover", "--code-file", code)
    assert refused.code == 2
    assert "--key-file" in refused.err
    fresh = tmp_path / "fresh.key"
    assert run("--vault", vault, "--key-file", fresh, "keys", "recover", "--code-file", code).code == 0


def test_recover_without_a_terminal_or_a_code_is_refused(run: Any, vault: Path, tmp_path: Path) -> None:
    found = run("--vault", vault, "--key-file", tmp_path / "k", "keys", "recover")
    assert found.code == 2
    assert "--code-file" in found.err


def test_hand_over_to_a_recipient(run: Any, vault: Path, tmp_path: Path) -> None:
    key, public = tmp_path / "theirs.key", tmp_path / "theirs.pub"
    public.write_text(run("--key-file", key, "keys", "public").out)
    added = run("--vault", vault, "keys", "add", "recipient", public, "--json")
    assert added.code == 0
    without = run("--vault", vault, "--key-file", key, "info")
    assert without.code == 1
    assert "fingerprint" in without.err
    fingerprint = added.json["fingerprint"]
    assert run("--vault", vault, "--key-file", key, "--fingerprint", fingerprint, "info").code == 0


def test_a_passphrase_vault(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import voxelvault.opening

    monkeypatch.setitem(
        voxelvault.opening.create_vault.__kwdefaults__ or {}, "memory_kib", passphrase.FLOOR_KIB
    )
    vault = tmp_path / "v"
    monkeypatch.setenv("VOXELVAULT_PASSPHRASE", "open sesame")
    made = run("init", vault, "--json")
    assert (made.code, made.json["key_file"]) == (0, None)
    assert run("--vault", vault, "info").code == 0
    monkeypatch.setenv("VOXELVAULT_PASSPHRASE", "wrong")
    wrong = run("--vault", vault, "info")
    assert wrong.code == 1
    assert wrong.err.count("\n") == 1
    monkeypatch.delenv("VOXELVAULT_PASSPHRASE")
    assert run("--vault", vault, "info").code == 1


def test_a_new_recovery_code_replaces_the_old_one_on_request(run: Any, vault: Path) -> None:
    assert run("--vault", vault, "keys", "add", "recovery").code == 2
    before = slots(run, vault)
    assert run("--vault", vault, "keys", "add", "recovery", "--yes", "--json").json["recovery_code"]
    after = slots(run, vault)
    assert before["recovery"] != after["recovery"]
    assert before["file"] == after["file"]


def test_values_that_belong_elsewhere_are_refused(run: Any, vault: Path) -> None:
    assert run("--vault", vault, "keys", "add", "passphrase", "hunter2").code == 2
    assert run("--vault", vault, "keys", "add", "file").code == 2
    assert run("--vault", vault, "keys", "add", "recipient", "no key").code == 2
    assert run("keys", "public").code == 2
