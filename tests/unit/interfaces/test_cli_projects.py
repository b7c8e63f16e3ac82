"""`deidentify project` and `ledger`: from keys to maps, with and without a vault."""

from __future__ import annotations

import csv
import hashlib
import stat
from pathlib import Path
from typing import Any

import pytest

from voxelvault.releasing import ledgers


@pytest.fixture
def approvers(run: Any, tmp_path: Path) -> list[str]:
    """Two approvers' keys, and the words that enrol them."""
    words = []
    for label in ("ann", "bob"):
        made = run("deidentify", "approver", "new", tmp_path / f"{label}.key", "--json").json
        assert (tmp_path / f"{label}.pub").read_text() == made["public_key"] + "\n"
        assert stat.S_IMODE((tmp_path / f"{label}.key").stat().st_mode) == 0o600
        words += ["--approver", f"{label}={tmp_path / label}.pub"]
    return words


def test_a_vaults_release_is_reversed_by_two(
    run: Any, filled: Path, tmp_path: Path, approvers: list[str]
) -> None:
    def verb(*words: object) -> Any:
        return run("--vault", filled, "deidentify", *words)

    made = verb("project", "create", *approvers, "--json").json
    assert (made["approvers"], made["ledger"], made["audit_log"]) == (["ann", "bob"], True, True)
    assert verb("--all", "--out", tmp_path / "out", "--faces", "keep", "--format", "dicom").code == 0
    request = verb("ledger", "request", "--purpose", "IRB-7", "--json").json["request"]
    key = tmp_path / "ann.key"
    asked = verb("ledger", "approve", request, "--key", key, "--dry-run")
    assert asked.code == 0
    assert "IRB-7" in asked.out
    told = dict(line.split(maxsplit=1) for line in asked.out.splitlines())
    assert (told["approved_by"], told["pseudonyms"], told["carried_out"]) == ("nobody", "all", "no")
    assert verb("project", "show", "--json").json["requests"][0]["approved_by"] == []
    assert verb("ledger", "approve", request, "--key", key).code == 0
    again = verb("ledger", "approve", request, "--key", key)
    assert (again.code, again.err.count("\n")) == (2, 1)
    early = verb("ledger", "open", request, "--out", tmp_path / "maps", "--json")
    assert (early.code, early.json["error"]) == (1, "KeyUnavailable")
    assert verb("ledger", "approve", request, "--key", tmp_path / "bob.key").code == 0
    opened = verb("ledger", "open", request, "--out", tmp_path / "maps")
    assert opened.code == 0
    assert "re-identify" in opened.out
    assert not ledgers.request_file(request).exists()
    for name in ("patients", "uids", "paths"):
        file = tmp_path / "maps" / f"{name}.csv"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        with file.open(newline="") as lines:
            found = list(csv.DictReader(lines))
        assert found
        assert all(row["id_old"] not in opened.out for row in found)
    assert verb("ledger", "open", request, "--out", tmp_path / "more").code == 2
    shown = verb("project", "show")
    assert request in shown.out
    assert "yes" in shown.out
    kinds = [entry["kind"] for entry in run("--vault", filled, "audit", "log", "--json").json]
    assert {"project.made", "ledger.requested", "ledger.approved", "ledger.opened"} <= set(kinds)


def test_a_project_in_a_folder_says_that_it_has_no_log(
    run: Any, tmp_path: Path, incoming: Path, approvers: list[str]
) -> None:
    place = ["--project", tmp_path / "project"]
    made = run("deidentify", "project", "create", *place, *approvers)
    assert made.code == 0
    assert "no audit log" in made.err
    assert run("deidentify", "project", "show", *place).err == ""
    again = run("deidentify", "project", "create", *place, "--json")
    assert (again.code, again.json["exit_code"]) == (1, 1)
    assert run("deidentify", incoming, "--to", tmp_path / "out", "--faces", "keep", *place).code == 0
    request = run("deidentify", "ledger", "request", *place, "--maps", "paths", "--purpose", "P1", "--json")
    assert request.json["audit_log"] is False
    for label in ("ann", "bob"):
        key = ["--key", tmp_path / f"{label}.key"]
        assert run("deidentify", "ledger", "approve", request.json["request"], *place, *key).code == 0
    opened = run("deidentify", "ledger", "open", request.json["request"], *place, "--out", tmp_path / "maps")
    assert opened.code == 0
    with (tmp_path / "maps" / "paths.csv").open(newline="") as lines:
        found = {row["id_old"]: row["id_new"] for row in csv.DictReader(lines)}
    assert set(found) == {path.name for path in incoming.iterdir()}
    assert all((tmp_path / "out" / new).is_file() for new in found.values())
    assert [path.name for path in (tmp_path / "maps").iterdir()] == ["paths.csv"]


def test_another_custodian_makes_releases_of_the_project(
    run: Any, tmp_path: Path, incoming: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = ["--project", tmp_path / "project"]
    assert run("deidentify", "project", "create", *place).code == 0
    mine = tmp_path / "configuration"
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "theirs"))
    (tmp_path / "their.pub").write_text(run("deidentify", "custodian", "public").out)
    release = ["deidentify", incoming, "--to", tmp_path / "out", "--faces", "keep", *place]
    assert run(*release).code == 1
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(mine))
    enrol = ["deidentify", "project", "add-custodian", "night", tmp_path / "their.pub", *place, "--json"]
    assert run(*enrol).json["custodians"] == ["custodian", "night"]
    assert run(*enrol).code == 2
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "theirs"))
    assert run(*release).code == 0
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(mine))
    removed = ["deidentify", "project", "remove-custodian"]
    assert run(*removed, "night", *place, "--json").json["custodians"] == ["custodian"]
    assert run(*removed, "custodian", *place).code == 2  # the last one
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "theirs"))
    again = ["deidentify", incoming, "--to", tmp_path / "again", "--faces", "keep", *place]
    assert run(*again).code == 1


def test_approvers_begin_a_ledger_and_later_ones_are_approved(
    run: Any, vault: Path, tmp_path: Path, approvers: list[str]
) -> None:
    def verb(*words: object) -> Any:
        return run("--vault", vault, "deidentify", *words, "--json")

    assert verb("project", "create").json["ledger"] is False
    assert verb("ledger", "request", "--purpose", "P1").code == 2
    assert verb("project", "add-approver", approvers[1]).code == 2
    assert verb("project", "add-approver", *approvers[1::2]).json["ledger"] is True
    made = run("deidentify", "approver", "new", tmp_path / "eve.key")
    digest = hashlib.sha256((tmp_path / "eve.pub").read_bytes()).hexdigest()
    assert (made.code, digest in made.out, max(map(len, made.out.splitlines())) < 200) == (0, True, True)
    again = run("deidentify", "approver", "new", tmp_path / "eve.key")
    assert (again.code, "there already" in again.err) == (2, True)
    eve = f"eve={tmp_path / 'eve.pub'}"
    assert verb("project", "add-approver", eve).code == 2
    request = verb("project", "add-approver", eve, "--purpose", "P1").json["request"]
    other = f"eve={tmp_path / 'ann.pub'}"
    for label in ("ann", "bob"):
        yes = ["ledger", "approve", request, "--key", tmp_path / f"{label}.key"]
        assert verb(*yes).code == verb(*yes, "--approver", other).code == 2
        assert verb(*yes, "--approver", eve).code == 0
    done = verb("project", "add-approver", eve, "--request", request)
    assert done.json["approvers"] == ["ann", "bob", "eve"]
    assert done.json["requests"][0]["carried_out"] is True
    assert verb("project", "remove-approver", "ann").json["approvers"] == ["bob", "eve"]
    assert verb("project", "remove-approver", "bob").code == 2


def test_the_public_half_of_an_approvers_key_is_told_from_one_that_others_can_read(
    run: Any, tmp_path: Path, approvers: list[str]
) -> None:
    place = ["--project", tmp_path / "project"]
    assert run("deidentify", "project", "create", *place, *approvers).code == 0
    request = run("deidentify", "ledger", "request", *place, "--purpose", "P1", "--json").json["request"]
    done = run("deidentify", "ledger", "approve", request, *place, "--key", tmp_path / "ann.pub")
    assert done.code == 1
    assert "public half" in done.err
    assert "chmod" not in done.err


def test_a_file_that_is_no_approval_spoils_its_own_request_alone(
    run: Any, tmp_path: Path, approvers: list[str]
) -> None:
    place = ["--project", tmp_path / "project"]
    assert run("deidentify", "project", "create", *place, *approvers).code == 0
    ask = ["deidentify", "ledger", "request", *place, "--purpose", "P1", "--json"]
    spoilt, good = run(*ask).json["request"], run(*ask).json["request"]
    for request in (spoilt, good):
        yes = ["ledger", "approve", request, *place, "--key", tmp_path / "ann.key"]
        assert run("deidentify", *yes).code == 0
    folder = tmp_path / "project" / "approvals"
    (folder / f"{spoilt}.{'0' * 32}").write_text("no approval")
    other = next(path for path in folder.iterdir() if path.name.startswith(good))
    (folder / f"{spoilt}.{'1' * 32}").write_bytes(other.read_bytes())
    shown = run("deidentify", "project", "show", *place)
    assert shown.code == 0
    lines = {name: next(line for line in shown.out.splitlines() if name in line) for name in (spoilt, good)}
    assert "ann, 2 that don't hold" in lines[spoilt]
    assert "hold" not in lines[good]
    found = run("deidentify", "project", "show", *place, "--json").json["requests"]
    assert {one["request"]: one["spoilt"] for one in found} == {spoilt: 2, good: 0}
    opened = run("deidentify", "ledger", "open", spoilt, *place, "--out", tmp_path / "maps")
    assert opened.code != 0


@pytest.mark.parametrize(
    "words",
    [
        ("project", "create"),
        ("project", "create", "--project", "p", "--approver", "ann"),
        ("project", "add-approver", "a=b", "--purpose", "P1", "--request", "ab" * 16, "--project", "p"),
        ("ledger", "request", "--purpose", "P1"),
        ("approver", "new"),
    ],
)
def test_mistakes_get_one_line(run: Any, tmp_path: Path, monkeypatch: Any, words: tuple[str, ...]) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("deidentify", *words)
    assert done.code in (1, 2)
    assert done.out == ""
    lines = [line for line in done.err.splitlines() if not line.startswith("no audit log")]
    assert len(lines) == 1
    assert lines[0].startswith("voxelvault: ")
