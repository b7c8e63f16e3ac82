"""What was blanked can be looked at: on a page where the user says, and sealed inside the vault."""

from __future__ import annotations

import io
import json
import re
import stat
from base64 import b64decode
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

import voxelvault as vv
from voxelvault.deid import pixels
from voxelvault.deid.burned_in import Box
from voxelvault.deid.instance import Result
from voxelvault.deid.pixels import PixelReport
from voxelvault.deid.project_shelf import SealedShelf, only_project
from voxelvault.errors import UsageError
from voxelvault.interfaces.cli.app import main
from voxelvault.releasing.originals import Original
from voxelvault.releasing.review import Picture, Review
from voxelvault.releasing.study import Outcome
from voxelvault.testing import synthetic
from voxelvault.upkeep.removal import erase_subject


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pictures in which "text" is found in one corner."""
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(pixels, "may_hold_text", lambda header: True)
    monkeypatch.setattr(
        pixels, "find_everywhere", lambda *given: ([Box(top=1, left=2, bottom=5, right=9)], True)
    )
    folder = tmp_path / "in"
    folder.mkdir()
    for index, data in enumerate(synthetic.ct_series(2, 16, 24, seed=1)):
        header = pydicom.dcmread(io.BytesIO(data))
        values = header.pixel_array.copy()
        values[1:5, 2:9] = values.max() + 10
        header.PixelData = values.tobytes()
        header.save_as(folder / f"{index}.dcm")
    return tmp_path


def test_a_page_shows_before_and_after_to_its_owner_alone(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = home / "look.html"
    given = ["deidentify", str(home / "in"), "--to", str(home / "out"), "--review", str(page)]
    assert main(given) == 0
    assert "then delete it" in capsys.readouterr().out
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    text = page.read_text()
    assert text.count("<figure>") == 2
    named = re.findall(r"<figcaption>(DICOM/\S+): 1 box blanked</figcaption>", text)
    assert sorted(named) == sorted(
        path.relative_to(home / "out").as_posix()
        for path in (home / "out" / "DICOM").rglob("*")
        if path.is_file()
    )
    assert '<rect x="2" y="1" width="7" height="4"/>' in text
    assert not re.search(r"""(?:src|href)=["'](?!data:)|https?://|<script""", text)
    shown = re.findall(r"base64,([^\"]+)", text)
    before, after = (np.asarray(Image.open(io.BytesIO(b64decode(one))).convert("L")) for one in shown[:2])
    assert before[1:5, 2:9].min() > 200
    assert after[1:5, 2:9].max() < 50
    told = json.dumps([path.as_posix() for path in (home / "out").rglob("*")])
    assert "look.html" not in told
    assert "pictures" not in told


def test_a_page_is_never_in_the_release_nor_on_another_file(home: Path) -> None:
    (home / "there.html").touch()
    for place in ("out/look.html", "there.html"):
        given = ["deidentify", str(home / "in"), "--to", str(home / "out"), "--review", str(home / place)]
        assert main(given) == 2


def test_inside_a_vault_pictures_are_kept_sealed(home: Path) -> None:
    with vv.create(home / "vault") as vault:
        vault.ingest(home / "in", progress=False)
        made = vault.select().deidentify(home / "out", faces="keep", progress=False)
        resources = vault.resources
        shelf = SealedShelf(resources.objects, resources.keys, only_project(resources.objects))
        (release,) = {name.split("/")[1] for name in shelf.names("pictures")}
        kept = [json.loads(shelf.get(name)[0]) for name in shelf.names(f"pictures/{release}")]
    assert made.report.blanked == 2
    assert [one["boxes"] for one in kept] == [[[0, 2, 1, 9, 5]]] * 2
    assert all(b64decode(one["before"]).startswith(b"\x89PNG") for one in kept)
    sealed = [path for path in (home / "vault").rglob("*") if path.is_file() and "pictures" in path.parts]
    assert len(sealed) == 2
    assert not any(b"PNG" in path.read_bytes() for path in sealed)
    assert not [path for path in made.path.rglob("*") if "pictures" in path.parts]


def _kept(vault: Path) -> int:
    return sum(path.is_file() and "pictures" in path.parts for path in vault.rglob("*"))


def test_pictures_that_a_vault_keeps_are_shown_and_taken_out(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with vv.create(home / "vault") as vault:
        vault.ingest(home / "in", progress=False)
        vault.select().deidentify(home / "out", faces="keep", review=home / "first.html", progress=False)
    given = ["--vault", str(home / "vault"), "deidentify", "pictures"]
    assert main([*given, str(home / "again.html")]) == 0
    figures = [
        sorted(re.findall(r"<figure>.*", (home / name).read_text())) for name in ("first.html", "again.html")
    ]
    assert figures[0] == figures[1]
    assert stat.S_IMODE((home / "again.html").stat().st_mode) == 0o600
    assert main([*given, str(home / "again.html")]) == 2  # it would be written over
    assert main(given) == 2
    assert _kept(home / "vault") == 2
    capsys.readouterr()
    assert main([*given, str(home / "last.html"), "--remove", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["shown"], told["removed"], _kept(home / "vault")) == (2, 2, 0)
    with vv.open(home / "vault") as vault:
        entered = [str(entry.kind) for entry in vault.resources.log.entries()]
    assert entered.count("identifying.read") == 6  # two were made, one was refused; each begun and ended
    assert entered.count("document.removed") == 2


def test_an_erasure_takes_all_pictures_along(home: Path) -> None:
    with vv.create(home / "vault") as vault:
        vault.ingest(home / "in", progress=False)
        vault.select().deidentify(home / "out", faces="keep", progress=False)
        assert _kept(home / "vault") == 2
        rows = vault.resources.catalog.query("select subject_id from patients").to_pylist()
        erase_subject(vault.resources, rows[0]["subject_id"])
        assert _kept(home / "vault") == 0


def test_of_faces_the_image_with_most_of_each_series_is_shown() -> None:
    taken: list[Picture] = []
    review = Review([taken.append])

    def outcome(study: str, series: str, sop: str, face: int) -> Outcome:
        report = PixelReport("not_searched", (), b"before", b"after", (16, 24), 1, 3, face)
        return Outcome(Original("here"), "", Result(b"", study, series, sop, {}, {}, report))

    for index, face in enumerate([3, 9, 4]):
        review.take(outcome("1", "1.1", f"1.1.{index}", face), f"A/{index}")
    review.take(Outcome(Original("there"), "", reason="class_unknown"), "")
    assert not taken
    review.take(outcome("2", "2.1", "2.1.1", 5), "B/0")
    assert [one.path for one in taken] == ["A/1"]
    review.flush()
    assert [one.path for one in taken] == ["A/1", "B/0"]
    assert "A/1: face taken off, frame 2 of 3 shown<" in taken[0].figure()


def test_of_two_files_with_one_uid_only_the_one_that_is_released_is_shown(home: Path) -> None:
    (home / "in" / "again.dcm").write_bytes((home / "in" / "0.dcm").read_bytes())
    given = ["deidentify", str(home / "in"), "--to", str(home / "out"), "--review", str(home / "look.html")]
    assert main(given) == 3
    assert (home / "look.html").read_text().count("<figure>") == 2


def test_the_page_says_when_nothing_was_blanked(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "find_everywhere", lambda *given: ([], True))
    given = ["deidentify", str(home / "in"), "--to", str(home / "out"), "--review", str(home / "look.html")]
    assert main(given) == 0
    assert "<figure>" not in (home / "look.html").read_text()
    assert "Nothing was blanked" in (home / "look.html").read_text()


def test_pictures_are_shown_as_a_viewer_shows_them(home: Path) -> None:
    """Where the least value is white (MONOCHROME1), a blanked box is black on the page too."""
    for file in (home / "in").iterdir():
        header = pydicom.dcmread(file)
        header.PhotometricInterpretation = "MONOCHROME1"
        header.PixelData = (header.pixel_array.max() - header.pixel_array).tobytes()
        header.save_as(file)
    given = ["deidentify", str(home / "in"), "--to", str(home / "out"), "--review", str(home / "look.html")]
    assert main(given) == 0
    shown = re.findall(r"base64,([^\"]+)", (home / "look.html").read_text())
    before, after = (np.asarray(Image.open(io.BytesIO(b64decode(one))).convert("L")) for one in shown[:2])
    assert before[1:5, 2:9].min() > 200
    assert after[1:5, 2:9].max() < 50


def test_nothing_is_pictured_where_nobody_looks(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "thumbnail", lambda frame: [][1])
    assert main(["deidentify", str(home / "in"), "--to", str(home / "out")]) == 0


def test_a_selection_writes_the_page_too(home: Path) -> None:
    with vv.create(home / "vault") as vault:
        vault.ingest(home / "in", progress=False)
        with pytest.raises(UsageError, match="outside"):
            vault.select().deidentify(
                home / "out", faces="keep", review=home / "out" / "a.html", progress=False
            )
        vault.select().deidentify(home / "out", faces="keep", review=home / "look.html", progress=False)
    assert (home / "look.html").read_text().count("<figure>") == 2
