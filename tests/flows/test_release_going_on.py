"""A release that was stopped goes on as it was begun, or says why it can't."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

import pydicom
import pytest

import voxelvault as vv
from voxelvault.deid.model import Refused
from voxelvault.errors import NoSpace, UsageError
from voxelvault.interfaces.cli.app import main
from voxelvault.releasing import hands, places
from voxelvault.releasing.deidentify import Extras, Rules, release_folder, release_vault
from voxelvault.releasing.map_file import MapFile
from voxelvault.releasing.originals import FolderOriginals
from voxelvault.releasing.projects import Using, create, using
from voxelvault.releasing.proving import verify_folder, verify_vault
from voxelvault.testing import synthetic


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "config"))
    for number in range(2):
        for index, data in enumerate(synthetic.ct_series(2, 16, 16, seed=number)):
            place = tmp_path / "in" / str(number) / f"{index}.dcm"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
    return tmp_path


@pytest.fixture
def mine(home: Path) -> Using:
    create(home / "project")
    return using(home / "project")


@pytest.fixture
def stops(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the first study through, and stop at the second."""
    whole, calls = hands.release, iter(range(9))

    def stopping(*given: object) -> Iterator[object]:
        if next(calls) == 1:
            raise KeyboardInterrupt
        return whole(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(hands, "release", stopping)
    return iter(())


def go(home: Path, mine: Using, faces: str | None = "keep", map_file: Path | None = None) -> Path:
    originals = FolderOriginals(home / "in")
    return release_folder(originals, home / "out", Rules(faces=faces), mine, Extras(map_file)).path


@pytest.mark.usefixtures("stops")
def test_the_map_of_a_release_that_went_on_has_all_of_it(home: Path, mine: Using) -> None:
    place = home / "keys" / "map.json"
    with pytest.raises(KeyboardInterrupt):
        go(home, mine, map_file=place)
    assert len(json.loads(place.read_text())["paths"]) == 2
    out = go(home, mine, map_file=place)
    found = json.loads(place.read_text())
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert len(found["paths"]) == 4
    assert all((out / new).is_file() for new in found["paths"].values())
    assert list(place.parent.iterdir()) == [place]


def killed(home: Path, mine: Using, place: Path, after: int = 1) -> None:
    """Do it in a child that is killed when it has done so many studies."""
    whole, calls = hands.release, iter(range(9))

    def killing(*given: object) -> Iterator[object]:
        if next(calls) == after:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(*given)  # type: ignore[arg-type]

    def work() -> None:
        hands.release = killing  # type: ignore[assignment]
        go(home, mine, map_file=place)

    process = get_context("fork").Process(target=work)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


def test_what_a_killed_run_did_is_in_the_map_of_the_next(home: Path, mine: Using) -> None:
    place = home / "keys" / "map.json"
    killed(home, mine, place)
    (lines,) = place.parent.iterdir()
    assert stat.S_IMODE(lines.stat().st_mode) == 0o600
    with lines.open("a") as file:
        file.write('\n{"paths": {"torn')
    killed(home, mine, place, after=0)
    out = go(home, mine, map_file=place)
    found = json.loads(place.read_text())
    assert len(found["paths"]) == 4
    assert all((out / new).is_file() for new in found["paths"].values())
    assert set(found["patients"].values()) == {
        pydicom.dcmread(path).PatientID for path in (out / "DICOM").rglob("*") if path.is_file()
    }
    assert list(place.parent.iterdir()) == [place]


def test_what_a_killed_run_left_of_another_map_is_kept(home: Path, mine: Using) -> None:
    place = home / "keys" / "map.json"
    killed(home, mine, place)
    with pytest.raises(UsageError, match="another release's map"):
        release_folder(FolderOriginals(home / "in"), home / "other", Rules(faces="keep"), mine, Extras(place))
    go(home, mine, map_file=place)
    assert len(json.loads(place.read_text())["paths"]) == 4


def test_a_path_that_is_no_text_is_in_the_map(home: Path) -> None:
    maps = MapFile(home / "map.json", {})
    maps.add({"paths": {"caf\udce9\u2028.dcm": "DICOM/1"}})
    maps.write()
    assert json.loads((home / "map.json").read_text("utf-8"))["paths"] == {"caf\udce9\u2028.dcm": "DICOM/1"}


@pytest.mark.usefixtures("stops")
def test_a_release_does_not_go_on_without_the_map_of_what_was_done(home: Path, mine: Using) -> None:
    place = home / "map.json"
    with pytest.raises(KeyboardInterrupt):
        go(home, mine, map_file=place)
    place.unlink()
    with pytest.raises(UsageError, match="map of what was released before"):
        go(home, mine, map_file=place)


@pytest.mark.usefixtures("stops")
def test_another_key_does_not_go_on_where_this_one_stopped(home: Path, mine: Using) -> None:
    with pytest.raises(KeyboardInterrupt):
        go(home, mine)
    with pytest.raises(UsageError, match="another project"):
        go(home, using(None))
    assert verify_folder(go(home, mine)).ok


@pytest.mark.usefixtures("stops")
@pytest.mark.parametrize("other", [Rules(faces="refuse"), Rules("basic", faces="keep")])
def test_other_rules_do_not_go_on_where_these_stopped(home: Path, mine: Using, other: Rules) -> None:
    with pytest.raises(KeyboardInterrupt):
        go(home, mine)
    with pytest.raises(UsageError, match="other rules"):
        release_folder(FolderOriginals(home / "in"), home / "out", other, mine)


def test_a_question_before_anything_is_done_binds_nobody(
    home: Path, mine: Using, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = hands.release

    def asks(*given: object) -> Iterator[object]:
        raise UsageError("a face can be made out")

    monkeypatch.setattr(hands, "release", asks)
    with pytest.raises(UsageError, match="face"):
        go(home, mine, None, home / "map.json")
    monkeypatch.setattr(hands, "release", whole)
    made = release_folder(
        FolderOriginals(home / "in"),
        home / "out",
        Rules("basic", faces="deface"),
        using(None),
        Extras(home / "map.json"),
    )
    assert made.complete
    assert verify_folder(made.path).files == 4


def test_an_interrupted_run_with_a_key_of_its_own_says_that_it_cannot_go_on(home: Path, mine: Using) -> None:
    made = release_folder(FolderOriginals(home / "in"), home / "out", Rules(), mine)
    made.interrupted = True
    assert "run it again to go on" in str(made)
    made.one_time = True
    assert "begin anew" in str(made)


@pytest.mark.usefixtures("stops")
def test_a_release_that_is_a_vault_goes_on_and_is_left_alone_when_whole(home: Path) -> None:
    with vv.create(home / "vault") as vault:
        vault.ingest(home / "in", progress=False)
        with pytest.raises(KeyboardInterrupt):
            vault.select().deidentify(home / "out", progress=False)
        made = vault.select().deidentify(home / "out", progress=False)
        assert made.report.released == 4
        with vv.open(home / "out") as release:
            assert verify_vault(release.resources).ok
        with pytest.raises(UsageError, match="is whole"):
            vault.select().deidentify(home / "out", progress=False)


def test_a_vault_of_which_nothing_came_is_not_left_behind(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = hands.release

    def asks(*given: object) -> Iterator[object]:
        raise UsageError("a face can be made out")

    with vv.create(home / "vault") as vault:
        vault.ingest(home / "in", progress=False)
        monkeypatch.setattr(hands, "release", asks)
        with pytest.raises(UsageError, match="face"):
            vault.select().deidentify(home / "out", progress=False)
        assert not (home / "out").exists()
        monkeypatch.setattr(hands, "release", whole)
        assert vault.select().deidentify(home / "out", progress=False).recovery_code


def test_what_is_left_out_is_told_with_the_reason(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(home / "in" / "1")
    data = (home / "in" / "0" / "0.dcm").read_bytes()
    (home / "in" / "0" / "0.dcm").write_bytes(data[:-40])
    assert main(["deidentify", str(home / "in"), "--to", str(home / "out")]) == 3
    reason = str(Refused("pixels_undecodable"))
    assert reason in capsys.readouterr().out


def test_a_release_that_is_not_there_is_told(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deidentify", "verify", str(home / "nowhere")]) == 2
    assert "no folder of that name" in capsys.readouterr().err


@pytest.mark.parametrize("way", [["--format", "vault"], ["--format", "dicom"]])
def test_the_card_of_a_release_is_shown(
    home: Path, way: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with vv.create(home / "vault") as vault:
        vault.ingest(home / "in", progress=False)
    assert (
        main(["--vault", str(home / "vault"), "deidentify", "--all", "--out", str(home / "out"), *way]) == 0
    )
    capsys.readouterr()
    assert main(["deidentify", "card", str(home / "out")]) == 0
    assert "| studies | 2 |" in capsys.readouterr().out
    assert main(["deidentify", "card", str(home / "out"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["@type"] == "sc:Dataset"
    assert main(["deidentify", "card", str(home / "in")]) == 1
    assert main(["deidentify", "card", str(home / "nowhere")]) == 2
    for verb in ("card", "verify"):
        capsys.readouterr()
        assert main(["--accept-restore", "deidentify", verb, str(home / "out")]) == 2
        assert "leave it out" in capsys.readouterr().err


def test_a_card_that_was_changed_is_not_shown(
    home: Path, mine: Using, capsys: pytest.CaptureFixture[str]
) -> None:
    card = go(home, mine) / "card.md"
    assert main(["deidentify", "card", str(home / "out")]) == 0
    assert "says whether the images are" in capsys.readouterr().err
    card.write_text(card.read_text().replace("| studies | 2 |", "| studies | 9 |"))
    assert main(["deidentify", "card", str(home / "out")]) == 1
    told = capsys.readouterr()
    assert (told.out, "not the one that was signed for" in told.err) == ("", True)
    (home / "out" / "receipts.jsonl").unlink()
    assert main(["deidentify", "card", str(home / "out")]) == 1


def test_a_vault_that_another_run_began_tells_how_to_get_a_recovery_code(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["deidentify", str(home / "in"), "--to", str(home / "out"), "--format", "vault"]
    given += ["--project", str(home / "project")]
    create(home / "project")
    whole, calls = hands.release, iter(range(9))

    def stopping(*given: object) -> Iterator[object]:
        if next(calls) == 1:
            raise KeyboardInterrupt
        return whole(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(hands, "release", stopping)
    assert main(given) == 1
    assert "recovery code" not in capsys.readouterr().out
    assert main(given) == 0
    told = capsys.readouterr().out
    assert "`voxelvault --vault RELEASE keys add recovery` makes a new one" in told
    assert main(["--vault", str(home / "out"), "keys", "add", "recovery", "--yes"]) == 0
    assert main(["deidentify", "verify", str(home / "out")]) == 0


def test_a_release_that_is_released_again_still_verifies(home: Path) -> None:
    with vv.create(home / "vault") as vault:
        vault.ingest(home / "in", progress=False)
        made = vault.select().deidentify(home / "out", progress=False)
    with vv.open(made.path) as release:
        release.select().deidentify(home / "again", progress=False)
        assert verify_vault(release.resources).ok


def test_a_project_that_is_not_there_or_there_already_is_told(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["--project", str(home / "project")]
    given = ["deidentify", str(home / "in"), "--to", str(home / "out"), *place]
    assert main(given) == 1
    assert "no project of that name" in capsys.readouterr().err
    assert not (home / "out").exists()
    assert main(["deidentify", "project", "create", *place]) == 0
    assert main(["deidentify", "project", "create", *place]) == 1
    assert "already" in capsys.readouterr().err
    assert main(given) == 0


def test_half_a_vault_is_not_in_the_way_of_the_next_run(
    home: Path, mine: Using, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *given: object, **more: object) -> None:
        (path / "catalog").mkdir(parents=True)
        raise NoSpace("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(places, "create_vault", full)
        with pytest.raises(NoSpace):
            release_vault(FolderOriginals(home / "in"), home / "out", Rules(faces="keep"), mine)
    made = release_vault(FolderOriginals(home / "in"), home / "out", Rules(faces="keep"), mine)
    assert made.complete


def test_a_whole_release_is_told_to_be_one(home: Path, mine: Using) -> None:
    go(home, mine)
    with pytest.raises(UsageError, match="a release that is whole"):
        go(home, mine)
    assert verify_folder(home / "out").ok


def test_who_has_no_custodians_key_is_told_where_to_get_one(
    home: Path, mine: Using, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "config" / "keys" / "custodian.key").rename(home / "elsewhere")
    given = ["deidentify", str(home / "in"), "--to", str(home / "out"), "--project", str(home / "project")]
    assert main(given) == 1
    assert "`voxelvault deidentify custodian public`" in capsys.readouterr().err
    assert not (home / "out").exists()
