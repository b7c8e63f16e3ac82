"""Each verb on a small vault: what it prints, and its exit code."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import voxelvault.intake.here
from voxelvault.interfaces.cli import app
from voxelvault.opening import read_settings
from voxelvault.storage.objects import LocalObjects
from voxelvault.testing.synthetic import PATIENT_ID, PATIENT_NAME, ct_series, hostile


def series_uid(run: Any, vault: Path) -> str:
    document = run("--vault", vault, "sql", "--json", "select SeriesInstanceUID as uid from series").json
    return str(document["rows"][0]["uid"])


def digests(folder: Path) -> set[str]:
    return {hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.dcm")}


def test_init_prints_the_recovery_code_once(run: Any, tmp_path: Path) -> None:
    made = run("init", tmp_path / "v", "--json")
    assert made.code == 0
    assert len(made.json["recovery_code"].replace("-", "")) == 36
    assert Path(made.json["key_file"]).is_file()
    assert "one disk" in made.err
    again = run("init", tmp_path / "v")
    assert again.code == 1
    assert again.err.count("\n") == 1


def test_init_takes_the_place_from_before_the_verb(run: Any, tmp_path: Path) -> None:
    made = run("--vault", tmp_path / "v", "init")
    assert made.code == 0
    assert f"next: voxelvault --vault {tmp_path / 'v'} ingest" in made.out
    found = run("init")
    assert (found.code, found.err.count("\n")) == (2, 1)


def test_init_with_key_file_and_passphrase_is_refused(run: Any, tmp_path: Path) -> None:
    found = run("--key-file", tmp_path / "k", "init", tmp_path / "v", "--passphrase")
    assert found.code == 2
    assert not (tmp_path / "v").exists()


def test_no_vault_says_what_to_do(run: Any, tmp_path: Path) -> None:
    assert "VOXELVAULT" in run("info").err
    found = run("--vault", tmp_path / "nothing", "info")
    assert (found.code, found.out) == (1, "")
    assert "voxelvault init" in found.err


def test_a_missing_key_is_one_line(run: Any, vault: Path, configuration: Path) -> None:
    key = configuration / "elsewhere" / f"{read_settings(LocalObjects(vault))[0].vault_id}.key"
    (configuration / "keys").rename(key.parent)
    found = run("--vault", vault, "info")
    assert found.code == 1
    assert found.err.count("\n") == 1
    assert run("--vault", vault, "--key-file", key, "info").code == 0


def test_failures_are_json_too(run: Any, tmp_path: Path) -> None:
    found = run("--vault", tmp_path / "nothing", "info", "--json")
    assert found.json["error"] == "NotAVault"
    assert found.json["exit_code"] == found.code == 1


def test_the_vault_may_come_from_the_environment(
    run: Any, vault: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOXELVAULT", str(vault))
    assert run("info").code == 0


def test_ingest_reports_and_resumes(run: Any, vault: Path, incoming: Path) -> None:
    dry = run("--vault", vault, "ingest", incoming, "--dry-run", "--json")
    assert (dry.code, dry.json["stored"], dry.json["dry_run"]) == (0, 6, True)
    done = run("--vault", vault, "ingest", incoming, "--json")
    assert (done.code, done.json["stored"], done.json["complete"]) == (0, 6, True)
    again = run("--vault", vault, "ingest", incoming)
    assert again.code == 0
    assert "6 already there" in again.out


def test_ingest_in_part_exits_3_and_says_why(run: Any, vault: Path, incoming: Path) -> None:
    (incoming / "bad.dcm").write_bytes(hostile()["path in a UID"])
    found = run("--vault", vault, "ingest", incoming)
    assert found.code == 3
    assert "bad.dcm" in found.out
    assert "invalid_uid" in found.out
    assert (
        run("--vault", vault, "ingest", incoming, "--json").json["quarantined"][0]["reason"] == "invalid_uid"
    )


def test_ingest_says_what_has_no_image(run: Any, vault: Path, incoming: Path) -> None:
    *_, last = sorted(incoming.iterdir())
    last.write_bytes(last.read_bytes()[:-99])
    found = run("--vault", vault, "ingest", incoming)
    assert found.code == 0
    assert "6 stored in 1 series, 1 with pixels that can't be decoded" in found.out
    named = run("--vault", vault, "sql", found.out.partition("names them: ")[2])
    assert named.out.count("2.25.") == 1


def test_move_wants_yes_and_shows_its_plan(run: Any, vault: Path, incoming: Path) -> None:
    asked = run("--vault", vault, "ingest", incoming, "--move")
    assert asked.code == 2
    assert "plan:" in asked.err
    assert "--yes" in asked.err
    dry = run("--vault", vault, "ingest", incoming, "--move", "--dry-run")
    assert dry.code == 0
    assert len(list(incoming.iterdir())) == 6
    assert run("--vault", vault, "ingest", incoming, "--move", "--yes").code == 0
    assert list(incoming.iterdir()) == []


def test_ctrl_c_finishes_the_series_at_hand(
    run: Any, vault: Path, incoming: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, data in enumerate(ct_series(3, series=2)):
        (incoming / f"second-{number}.dcm").write_bytes(data)
    write_pack = voxelvault.intake.here.write_pack

    def interrupted(*words: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return write_pack(*words)

    with monkeypatch.context() as patch:
        patch.setattr(voxelvault.intake.here, "write_pack", interrupted)
        found = run("--vault", vault, "ingest", incoming, "--json")
    assert found.code == 3
    assert found.json["interrupted"]
    assert 0 < found.json["stored"] < 9
    rest = run("--vault", vault, "ingest", incoming, "--json")
    assert (rest.code, rest.json["stored"] + found.json["stored"]) == (0, 9)


def test_sql_as_table_csv_and_json(run: Any, filled: Path) -> None:
    query = (
        "select Modality, count(*) as n, sum(length) as bytes"
        " from series join instances using (series_id) group by 1"
    )
    table = run("--vault", filled, "sql", query)
    assert table.out.splitlines()[0].split() == ["Modality", "n", "bytes"]
    assert table.out.splitlines()[2].split()[:2] == ["CT", "6"]
    rows = list(csv.DictReader(io.StringIO(run("--vault", filled, "sql", "--csv", query).out)))
    assert rows[0]["n"] == "6"
    document = run("--vault", filled, "sql", "--json", query).json
    assert document["rows"][0]["n"] == 6
    assert isinstance(document["rows"][0]["bytes"], int)
    assert run("--vault", filled, "sql", "--csv", "--json", query).code == 2


def test_sql_reads_stdin_and_refuses_nonsense(
    run: Any, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("select 1 as a, 2 as a, 'x\x1b[2J' as b"))
    found = run("--vault", filled, "sql", "-")
    assert "\x1b" not in found.out
    assert run("--vault", filled, "sql", "--json", "select 1 as a, 2 as a").json["rows"] == [
        {"a": 1, "a_2": 2}
    ]
    broken = run("--vault", filled, "sql", "selec")
    assert broken.code == 1
    assert broken.err.count("\n") == 1


def test_show_prints_and_draws_without_names(run: Any, filled: Path, tmp_path: Path) -> None:
    uid, picture = series_uid(run, filled), tmp_path / "sheet.png"
    found = run("--vault", filled, "show", uid, "--out", picture, "--window", "40,400", "--json")
    assert found.code == 0
    assert found.json["instances"] == 6
    assert uid not in found.out
    with Image.open(picture) as drawn:
        assert drawn.width > 192
        assert len(drawn.getcolors(1 << 24)) > 20
    assert run("--vault", filled, "show", uid, "--out", picture).code == 2
    assert run("--vault", filled, "show", uid, "--window", "a,b", "--out", tmp_path / "x.png").code == 2
    unknown = run("--vault", filled, "show", "1.2.3")
    assert unknown.code == 2
    assert unknown.err.count("\n") == 1


def test_info_of_vault_and_uid_names_nobody(run: Any, filled: Path) -> None:
    whole = run("--vault", filled, "info")
    assert "fingerprint" in whole.out
    assert "one disk" in whole.out
    part = run("--vault", filled, "info", series_uid(run, filled), "--json")
    assert (part.json["level"], part.json["instances"]) == ("series", 6)
    for found in (whole, part):
        assert PATIENT_NAME not in found.out
        assert PATIENT_ID not in found.out
    assert run("--vault", filled, "info", "1.2.3").code == 2


def test_export_gives_the_same_bytes(run: Any, filled: Path, incoming: Path, tmp_path: Path) -> None:
    found = run("--vault", filled, "export", "--out", tmp_path / "out", "--all", "--json")
    assert (found.code, found.json["files"]) == (0, 6)
    assert digests(tmp_path / "out") == digests(incoming)
    uid = series_uid(run, filled)
    assert run("--vault", filled, "export", "--out", tmp_path / "one", "--series", uid).code == 0
    assert digests(tmp_path / "one") == digests(incoming)
    assert run("--vault", filled, "export", "--out", tmp_path / "one", "--all", "--series", uid).code == 2


def test_verify_finds_what_was_changed_and_names_it_on_request(run: Any, filled: Path) -> None:
    assert run("--vault", filled, "verify", "--quick").code == 0
    whole = run("--vault", filled, "verify", "--json")
    assert (whole.code, whole.json["ok"], whole.json["instances"]) == (0, True, 6)
    uid = series_uid(run, filled)
    largest = max((filled / "objects").rglob("*"), key=lambda path: path.is_file() and path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.chmod(0o600)
    largest.write_bytes(data)
    broken = run("--vault", filled, "verify")
    assert broken.code == 1
    assert "FAILED" in broken.out
    assert uid not in broken.out
    assert uid in run("--vault", filled, "verify", "--names").out


def test_repair_shows_its_plan_and_wants_yes(run: Any, filled: Path, configuration: Path) -> None:
    assert run("--vault", filled, "verify", "--repair").code == 2
    assert run("--vault", filled, "verify", "--repair", "--dry-run").code == 0
    assert run("--vault", filled, "verify", "--repair", "--yes").code == 0
    for pin in (configuration / "pins").glob("*.json"):
        pin.unlink()
    stranger = run("--vault", filled, "verify", "--repair", "--yes")
    assert stranger.code == 2
    assert "--checkpoint" in stranger.err


def test_quarantine_list_export_retry(run: Any, vault: Path, incoming: Path, tmp_path: Path) -> None:
    bad = hostile()["path in a UID"]
    (incoming / "bad.dcm").write_bytes(bad)
    run("--vault", vault, "ingest", incoming)
    listed = run("--vault", vault, "quarantine", "list", "--json")
    assert [item["reason"] for item in listed.json] == ["invalid_uid"]
    assert listed.json[0]["advice"]
    assert "bad.dcm" in run("--vault", vault, "quarantine", "list").out
    assert run("--vault", vault, "quarantine", "export", "--out", tmp_path / "aside").code == 0
    assert digests(tmp_path / "aside") == {hashlib.sha256(bad).hexdigest()}
    retried = run("--vault", vault, "quarantine", "retry", "--json")
    assert (retried.code, len(retried.json["kept"])) == (3, 1)
    assert run("--vault", vault, "quarantine", "retry", "0" * 32).code == 2


def test_audit_log_verify_prove_checkpoint(run: Any, filled: Path, tmp_path: Path) -> None:
    note = tmp_path / "checkpoint.txt"
    assert run("--vault", filled, "audit", "checkpoint", "--export", note).code == 0
    entries = run("--vault", filled, "--purpose", "IRB-1", "audit", "log", "--json").json
    assert entries[0]["kind"] == "vault.created"
    assert entries[-1]["purpose"] == "IRB-1"
    assert len(run("--vault", filled, "audit", "log", "--last", "2").out.splitlines()) == 4
    assert "nothing older was given" in run("--vault", filled, "audit", "verify").out
    against = run("--vault", filled, "audit", "verify", "--against", note, "--json")
    assert (against.code, against.json["against"]) == (0, against.json["against"])
    assert "begin with" in against.json["says"]
    proof = run("--vault", filled, "audit", "prove", "0", "--json").json
    _check(proof)
    assert run("--vault", filled, "audit", "prove", "100000").code == 2
    assert "— voxelvault/" in run("--vault", filled, "audit", "checkpoint").out


def _check(proof: dict[str, Any]) -> None:
    from voxelvault.audit.checkpoint import NoteKey
    from voxelvault.audit.proof import verify_proof

    assert verify_proof(proof, NoteKey.parse(proof["log_public_key"])).kind == "vault.created"


def test_a_restored_copy_is_noticed_and_can_be_accepted(run: Any, vault: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(vault, tmp_path / "copy")
    run("--vault", vault, "info")
    shutil.rmtree(vault)
    shutil.copytree(tmp_path / "copy", vault)
    refused = run("--vault", vault, "info")
    assert refused.code == 1
    assert "--accept-restore" in refused.err
    assert run("--vault", vault, "--accept-restore", "info").code == 0
    kinds = [entry["kind"] for entry in run("--vault", vault, "audit", "log", "--json").json]
    assert "restore.accepted" in kinds


def test_os_errors_are_one_line(run: Any, filled: Path, tmp_path: Path) -> None:
    missing = run("--vault", filled, "audit", "verify", "--against", tmp_path / "no.txt")
    assert missing.code == 2
    assert missing.err.count("\n") == 1
    assert "Traceback" not in missing.err
    assert "no.txt" in missing.err


def test_interrupted_elsewhere_is_one_line(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_session: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("voxelvault.interfaces.cli.command.Session.open", stop)
    found = run("--vault", "x", "info")
    assert found.code == 1
    assert "interrupted" in found.err


def test_lab_says_what_it_starts_and_which_extra_is_missing(
    run: Any, vault: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = run("--vault", vault, "lab", "--dry-run", "--json")
    assert found.code == 0
    assert "jupyterlab" in found.json["command"]
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    missing = run("lab")
    assert missing.code == 1
    assert "voxelvault[notebook]" in missing.err


def test_lab_hands_whole_paths_to_notebooks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from voxelvault.interfaces.cli.command import Session
    from voxelvault.interfaces.cli.lab import _environment

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", "config")
    found = _environment(Session(vault="v"))
    assert found["VOXELVAULT"] == str(tmp_path / "v")
    assert found["VOXELVAULT_CONFIG_HOME"] == str(tmp_path / "config")


def test_a_closed_pipe_is_no_traceback(vault: Path) -> None:
    import subprocess
    import sys

    code = "import sys; from voxelvault.interfaces.cli import main; sys.exit(main(sys.argv[1:]))"
    words = [sys.executable, "-c", code, "--vault", str(vault), "sql", "select * from range(30000)"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()


def test_every_kind_of_result_becomes_json() -> None:
    from datetime import date
    from decimal import Decimal

    from voxelvault.interfaces.cli.output import plain

    values = [Decimal(3), Decimal("1.5"), float("nan"), date(2020, 1, 2), b"\x01", Path("a"), {"x": (1,)}]
    assert plain(values) == [3, 1.5, None, "2020-01-02", "01", "a", {"x": [1]}]


def test_disk_full_says_so() -> None:
    import errno

    assert "free some space" in app._advice(OSError(errno.ENOSPC, "No space left", "/x"))
    assert "permissions" in app._advice(OSError(errno.EACCES, "Denied", "/x"))
