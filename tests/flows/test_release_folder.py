"""A folder becomes a release: nobody's value in it, receipts that hold, and no work done twice."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

import voxelvault as vv
from voxelvault.deid import instance, pixels
from voxelvault.deid.model import Option
from voxelvault.deid.project_shelf import only_project
from voxelvault.deid.site_rules import read_toml
from voxelvault.errors import IntegrityError, UsageError
from voxelvault.interfaces.cli.app import main
from voxelvault.releasing import hands
from voxelvault.releasing.deidentify import Extras, Rules, release_folder
from voxelvault.releasing.originals import FolderOriginals
from voxelvault.releasing.projects import Using, create, using
from voxelvault.releasing.proving import verify_folder
from voxelvault.testing import synthetic
from voxelvault.testing.planting import Planted, Planter, left, plant, written

SECRETS = ("Zyxwqtop", "QQ4711XX", "Elsewhere Clinic")


def make(folder: Path, patients: int = 2, slices: int = 3) -> Path:
    for number in range(patients):
        for index, data in enumerate(synthetic.ct_series(slices, 16, 16, seed=number)):
            header = pydicom.dcmread(io.BytesIO(data))
            header.PatientName, header.PatientID = f"{SECRETS[0]}^{number}", f"{SECRETS[1]}{number}"
            header.InstitutionName, header.PatientBirthDate = SECRETS[2], "19610213"
            place = folder / f"{SECRETS[0]}{number}" / f"{index}.dcm"
            place.parent.mkdir(parents=True, exist_ok=True)
            header.save_as(place)
    return folder


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


@pytest.fixture
def mine(home: Path) -> Using:
    create(home / "project")
    return using(home / "project")


def release(home: Path, mine: Using, name: str = "out", **more: object) -> Path:
    originals = FolderOriginals(home / "in")
    made = release_folder(originals, home / name, Rules(faces="keep"), mine, Extras(**more))  # type: ignore[arg-type]
    assert made.complete
    return made.path


def images(folder: Path) -> list[Path]:
    return [path for path in sorted((folder / "DICOM").rglob("*")) if path.is_file()]


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_nothing_in_a_release_tells_whose_it_is(home: Path, mine: Using) -> None:
    make(home / "in")
    found = files(release(home, mine))
    assert sum(name.startswith("DICOM/") for name in found) == 6
    everything = b"\0".join(found.values()) + "\0".join(found).encode()
    for secret in (*SECRETS, str(home), "19610213", os.environ.get("USER", "nobody-here")):
        assert secret.encode() not in everything


def test_two_runs_of_a_project_give_the_same_files_and_two_projects_do_not(home: Path, mine: Using) -> None:
    make(home / "in")
    first, again = (files(release(home, mine, name)) for name in ("a", "b"))
    images = [name for name in first if name.startswith("DICOM/")]
    assert {name: first[name] for name in images} == {name: again[name] for name in images}
    other = files(release(home, using(None), "c"))
    assert not set(images) & set(other)


def test_receipts_hold_and_show_every_change(home: Path, mine: Using) -> None:
    make(home / "in")
    place = release(home, mine)
    signer = mine.opened.project.signing
    assert verify_folder(place, signer).ok
    name = images(place)[0].relative_to(place).as_posix()
    data = (place / name).read_bytes()
    (place / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert verify_folder(place, signer).changed == (name,)
    (place / name).unlink()
    assert verify_folder(place, signer).missing == (name,)
    (place / name).write_bytes(data)
    (place / "extra.dcm").write_bytes(data)
    assert verify_folder(place, signer).extra == ("extra.dcm",)
    with pytest.raises(IntegrityError):
        verify_folder(place, bytes(32))


def test_a_leak_stops_its_study_alone(home: Path, mine: Using, monkeypatch: pytest.MonkeyPatch) -> None:
    make(home / "in")
    whole = instance.file_bytes
    calls = iter(range(100))

    def leaking(rewritten: object) -> bytes:
        made = whole(rewritten)  # type: ignore[arg-type]
        return made + SECRETS[0].encode() + b"^0 " if next(calls) == 1 else made

    monkeypatch.setattr(instance, "file_bytes", leaking)
    originals = FolderOriginals(home / "in")
    made = release_folder(originals, home / "out", Rules(faces="keep"), mine)
    assert made.report.refused == {"leak_found": 3}
    assert made.report.released == 3
    assert not made.complete
    assert len(images(home / "out")) == 3
    assert verify_folder(home / "out").ok


def test_what_the_vaults_log_has_of_a_folders_release(home: Path) -> None:
    """Where a vault is named, a release of a folder stands in its log, and nothing of its files."""
    make(home / "in")
    with vv.create(home / "vault"):
        pass
    named = ["--vault", str(home / "vault"), "--purpose", "IRB-7"]
    create(home / "project")
    given = [str(home / "in"), "--to", str(home / "out"), "--project", str(home / "project")]
    assert main([*named, "deidentify", *given]) == 0
    with vv.open(home / "vault") as vault:
        found = [one for one in vault.resources.log.entries() if one.kind == "release.made"]
        assert [one.outcome for one in found] == ["intent", "ok"]
        assert found[-1].purpose == "IRB-7"
        assert (found[-1].counts["files"], found[-1].codes["format"]) == (6, ("dicom",))
        assert found[-1].ids["project"]
        assert vault.sql("select count(*) as n from patients").df()["n"][0] == 0
    assert main([*named, "deidentify", "project", "create"]) == 0
    again = [str(home / "in"), "--to", str(home / "again"), "--project"]
    with vv.open(home / "vault") as vault:
        project_id = only_project(vault.resources.objects)
    assert main([*named, "deidentify", *again, project_id]) == 0


def test_a_stopped_run_goes_on_and_does_nothing_twice(
    home: Path, mine: Using, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(home / "in")
    whole = hands.release

    def failing(*given: object) -> Iterator[object]:
        monkeypatch.setattr(hands, "release", stopped)
        return whole(*given)  # type: ignore[arg-type]

    def stopped(*given: object) -> Iterator[object]:
        raise KeyboardInterrupt

    monkeypatch.setattr(hands, "release", failing)
    originals = FolderOriginals(home / "in")
    with pytest.raises(KeyboardInterrupt):
        release_folder(originals, home / "out", Rules(faces="keep"), mine)
    assert len(images(home / "out")) == 3
    seen: list[object] = []

    def counted(study: object, *more: object) -> Iterator[object]:
        seen.append(study)
        return whole(study, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(hands, "release", counted)
    place = release(home, mine)
    assert len(seen) == 1
    assert verify_folder(place, mine.opened.project.signing).files == 6


def test_the_map_says_what_became_of_what_to_its_owner_alone(home: Path) -> None:
    make(home / "in")
    (home / "in" / "notes.txt").write_text("no DICOM")
    code = main(["deidentify", str(home / "in"), "--to", str(home / "out"), "--map", str(home / "map.json")])
    assert code == 0
    found = json.loads((home / "map.json").read_text())
    assert stat.S_IMODE((home / "map.json").stat().st_mode) == 0o600
    assert found["paths"]["notes.txt"] is None
    released = {new for new in found["paths"].values() if new}
    assert released == {name for name in files(home / "out") if name.startswith("DICOM/")}
    assert set(found["patients"]) == {f"{SECRETS[1]}{number}" for number in range(2)}
    for old, new in found["paths"].items():
        if new:
            before = pydicom.dcmread(home / "in" / old)
            after = pydicom.dcmread(home / "out" / new)
            assert found["uids"][before.SOPInstanceUID] == after.SOPInstanceUID
            assert found["patients"][before.PatientID] == after.PatientID
    assert "map_written" in (home / "out" / "receipts.jsonl").read_text()


def test_the_map_names_each_of_the_people_who_share_an_id(home: Path, mine: Using) -> None:
    for path in make(home / "in", slices=2).rglob("*.dcm"):
        header = pydicom.dcmread(path)
        header.PatientID = SECRETS[1]
        header.PatientBirthDate = f"196102{13 + int(path.parent.name[-1])}"
        header.save_as(path)
    place = release(home, mine, map_file=home / "map.json")
    found = json.loads((home / "map.json").read_text())["patients"]
    assert found == {SECRETS[1]: sorted({pydicom.dcmread(path).PatientID for path in images(place)})}
    assert len(found[SECRETS[1]]) == 2


@pytest.mark.parametrize("place", ["out/map.json", "in-the-way.json"])
def test_a_map_never_lies_in_the_release_nor_on_another_file(home: Path, place: str) -> None:
    make(home / "in", 1, 1)
    (home / "in-the-way.json").touch()
    code = main(["deidentify", str(home / "in"), "--to", str(home / "out"), "--map", str(home / place)])
    assert code == 2


def test_verify_and_explain_at_the_command_line(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(home / "in", 1, 1)
    assert main(["deidentify", str(home / "in"), "--to", str(home / "out"), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["released"] == 1
    assert main(["deidentify", "verify", str(home / "out"), "--signer", made["signer"]]) == 0
    told = capsys.readouterr().out
    assert "as signed for, and" in told
    assert "that sum others up (card" in told
    assert "original" in told
    assert main(["deidentify", "explain", "StudyDescription"]) == 0
    assert "clean_descriptors" in capsys.readouterr().out
    images(home / "out")[0].unlink()
    assert main(["deidentify", "verify", str(home / "out")]) == 1


def test_a_folder_is_a_file_set_and_its_directory_is_signed_for(home: Path, mine: Using) -> None:
    make(home / "in")
    place = release(home, mine)
    found = pydicom.dcmread(place / "DICOMDIR").DirectoryRecordSequence
    named = {"/".join(one.ReferencedFileID) for one in found if "ReferencedFileID" in one}
    assert named == {path.relative_to(place).as_posix() for path in images(place)}
    (place / "DICOM" / "extra.txt").touch()
    (place / "DICOMDIR").write_bytes(b"another")
    told = verify_folder(place)
    assert (told.changed, told.extra) == (("DICOMDIR",), ("DICOM/extra.txt",))


@pytest.mark.parametrize("given", [["--to", "in/out"], [], ["--to", "out", "--all"]])
def test_wrong_usage_is_told(home: Path, given: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    make(home / "in", 1, 1)
    monkeypatch.chdir(home)
    assert main(["deidentify", "in", *given]) == 2


def test_faces_are_taken_off_by_the_choice_about_faces(home: Path, mine: Using) -> None:
    with pytest.raises(UsageError, match="deface"):
        Rules(options=(Option.CLEAN_FACES,), faces="keep").profile()
    assert Option.CLEAN_FACES in Rules(options=(Option.CLEAN_FACES,), faces="deface").profile().options


KEEPS_NAMES = """[[rule]]
tag = "PatientName"
action = "keep"
"""


def test_a_model_that_is_called_as_another_patient_is_masked(home: Path, mine: Using) -> None:
    for path in make(home / "in").rglob("*.dcm"):
        header = pydicom.dcmread(path)
        header.PatientID = {f"{SECRETS[1]}0": "AB-123"}.get(header.PatientID, header.PatientID)
        header.SoftwareVersions = ["AB123", "VA48A"]
        header.save_as(path)
    found = [pydicom.dcmread(path) for path in images(release(home, mine))]
    assert {tuple(one.SoftwareVersions) for one in found} == {("XXX", "VA48A")}


def released_with(home: Path, mine: Using, rules: Rules) -> tuple[pydicom.Dataset, pydicom.Dataset]:
    """Return one file before and after."""
    make(home / "in", 1, 1)
    path = next((home / "in").rglob("*.dcm"))
    header = pydicom.dcmread(path)
    header.DateOfLastCalibration = "20200203"
    header.save_as(path)
    assert release_folder(FolderOriginals(home / "in"), home / "out", rules, mine).complete
    return header, pydicom.dcmread(next((home / "out").glob("DICOM/*/*/*")))


def test_what_an_option_keeps_is_no_leak(home: Path, mine: Using) -> None:
    before, after = released_with(home, mine, Rules("basic", (Option.RETAIN_DEVICE,)))
    assert after.DateOfLastCalibration == before.DateOfLastCalibration
    assert after.PatientName != before.PatientName


def test_what_a_rule_of_the_site_keeps_is_no_leak(home: Path, mine: Using) -> None:
    before, after = released_with(home, mine, Rules("basic", site=read_toml(KEEPS_NAMES)))
    assert after.PatientName == before.PatientName
    assert "DateOfLastCalibration" not in after


COLUMNS = {
    Option.RETAIN_FULL_DATES: "retain_long_full_dates",
    Option.RETAIN_MODIFIED_DATES: "retain_long_modified_dates",
    Option.RETAIN_PATIENT_CHARACTERISTICS: "retain_patient_chars",
    Option.RETAIN_DEVICE: "retain_device_ident",
    Option.RETAIN_UIDS: "retain_uids",
    Option.RETAIN_SAFE_PRIVATE: "retain_safe_private",
    Option.RETAIN_INSTITUTION: "retain_institution_ident",
}
"""Columns of the table that say what an option retains."""

CHOICES = [option for option in Option if option is not Option.CLEAN_FACES]
ALONE = [("basic", (option,)) for option in CHOICES]
TOGETHER = [
    ("basic", tuple(option for option in CHOICES if option is not Option.RETAIN_MODIFIED_DATES)),
    ("research", tuple(option for option in CHOICES if option is not Option.RETAIN_FULL_DATES)),
]


def leaves_nothing(shared: Path, home: Path, mine: Using, profile: str, options: tuple[Option, ...]) -> None:
    """Plant a value in every place that real files offer, one file of each class and syntax; release them."""
    rows = (shared.parents[1] / "tables" / "ps315_e1-1.csv").read_text().splitlines()
    planted = plant_all(shared, home / "in", list(csv.DictReader(rows)))
    assert sum(map(len, planted.values())) > 10_000
    rules = Rules(profile, options, faces="keep")
    extras = Extras(map_file=home / "map.json")
    made = release_folder(FolderOriginals(home / "in"), home / "out", rules, mine, extras)
    assert made.report.released > 40
    assert made.report.refused.get("leak_found", 0) <= 5
    chosen = rules.profile().options
    kept = [COLUMNS[option] for option in chosen if option in COLUMNS]
    # Where dates are moved, another one of the patient may come to lie on a planted one.
    moved = Option.RETAIN_MODIFIED_DATES in chosen
    for old, new in json.loads((home / "map.json").read_text())["paths"].items():
        found = left((home / "out" / new).read_bytes(), planted[old], kept) if new else []
        assert not [one for one in found if not (moved and _is_day(one.value))], old


@pytest.fixture
def unsearched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave pictures unsearched, which takes long: they have tests of their own."""
    monkeypatch.setattr(pixels, "may_hold_text", lambda header: False)


@pytest.mark.shared
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("unsearched")
@pytest.mark.parametrize("profile", ["research", "basic"])
def test_no_planted_value_comes_out_of_real_files(
    shared_dicom: Path, home: Path, mine: Using, profile: str
) -> None:
    leaves_nothing(shared_dicom, home, mine, profile, ())


@pytest.mark.long
@pytest.mark.shared
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("unsearched")
@pytest.mark.parametrize(("profile", "options"), [*ALONE, *TOGETHER])
def test_no_planted_value_comes_out_whatever_the_options(
    shared_dicom: Path, home: Path, mine: Using, profile: str, options: tuple[Option, ...]
) -> None:
    leaves_nothing(shared_dicom, home, mine, profile, options)


def _is_day(value: str) -> bool:
    return re.fullmatch(r"\d{8}|\d{2}\.\d{2}\.\d{4}", value) is not None


def plant_all(shared: Path, folder: Path, table: list[dict[str, str]]) -> dict[str, list[Planted]]:
    rows = csv.DictReader((shared / "MANIFEST.csv").read_text("utf-8").splitlines())
    seen: set[tuple[str, str]] = set()
    planted: dict[str, list[Planted]] = {}
    folder.mkdir()
    for number, row in enumerate(rows):
        key = (row["sop_class"], row["transfer_syntax_uid"])
        if key in seen or row["decode_ok"] == "no" or int(row["bytes"]) > 300_000:
            continue
        seen.add(key)
        try:
            source = pydicom.dcmread(shared / row["path"], force=True)
            made, values = plant(source, table, number)
            more = Planter(10_000 + number)
            data = written(made, more.word)
        except (ValueError, AttributeError, NotImplementedError):
            continue
        planted[f"{number}.dcm"] = left(data, [*values, *more.planted])
        (folder / f"{number}.dcm").write_bytes(data)
    return planted
