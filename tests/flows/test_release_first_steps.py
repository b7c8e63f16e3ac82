"""The first command of somebody new: a wrong folder, links that lead out, a question that comes first."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from pathlib import Path

import pydicom
import pytest

import head_phantom as phantom
from voxelvault.interfaces.cli.app import main
from voxelvault.releasing import deidentify, hands
from voxelvault.testing import synthetic


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "in").mkdir()
    return tmp_path


def release(home: Path, *more: str) -> int:
    return main(["deidentify", str(home / "in"), "--to", str(home / "out"), *more])


def ct(folder: Path, count: int = 2, seed: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(synthetic.ct_series(count, 16, 16, seed=seed)):
        (folder / f"{number}.dcm").write_bytes(data)
    return folder


@pytest.mark.parametrize("way", ["dicom", "vault", "nifti"])
def test_a_folder_without_dicom_is_an_error_and_leaves_no_place(
    home: Path, way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "in" / "Doe.txt").write_text("no DICOM")
    assert release(home, "--format", way) == 2
    told = capsys.readouterr().err
    assert "nothing to de-identify" in told
    assert "1 not_dicom" in told
    assert "Doe" not in told
    assert not (home / "out").exists()
    ct(home / "in")
    assert release(home) == 0


def test_an_empty_folder_is_an_error(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert release(home) == 2
    assert "holds no file" in capsys.readouterr().err
    assert not (home / "out").exists()


def test_what_is_left_out_is_listed_in_order(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"slice-{number:02}.dcm" for number in range(12)]
    for name in (*names[::2], *names[1::2]):
        (home / "in" / name).write_bytes((ct(home / "one", 1) / "0.dcm").read_bytes()[:400])
    ct(home / "in", 1, seed=2)
    assert release(home) == 3
    told = capsys.readouterr().out
    assert [line.split(": ")[1] for line in told.splitlines() if line.startswith("  left out: ")] == names


def linked(home: Path) -> None:
    """Give the source a plain study and links: out of it to a file, to a folder, to nothing; within it."""
    ct(home / "in" / "own")
    ct(home / "others", seed=1)
    (home / "in" / "file.dcm").symlink_to(home / "others" / "0.dcm")
    (home / "in" / "folder").symlink_to(home / "others")
    (home / "in" / "again").symlink_to(home / "in" / "own")


def test_links_out_of_the_source_are_left_out_and_told(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "in").rmdir()
    (home / "real").mkdir()
    (home / "in").symlink_to(home / "real")
    linked(home)
    assert release(home) == 3
    told = capsys.readouterr().out
    assert "2 of 4 files released" in told
    assert "2 link_outside" in told
    assert "left out: folder: link_outside: a link that leads out of the folder" in told
    assert "--follow-links" in told


def test_links_out_of_the_source_are_followed_when_asked(home: Path) -> None:
    linked(home)
    (home / "in" / "file.dcm").unlink()
    assert release(home, "--follow-links") == 0
    assert sum(path.is_file() for path in (home / "out" / "DICOM").rglob("*")) == 4


def test_a_folder_of_links_alone_tells_how_to_follow_them(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ct(home / "others")
    (home / "in" / "folder").symlink_to(home / "others")
    assert release(home) == 2
    assert "1 link_outside" in capsys.readouterr().err
    assert release(home, "--follow-links") == 0


def with_a_head(home: Path) -> None:
    ct(home / "in" / "small")
    ct(home / "in" / "body", count=9, seed=1)
    (home / "in" / "head").mkdir()
    for number, made in enumerate(phantom.head()):
        (home / "in" / "head" / f"{number}.dcm").write_bytes(phantom.file_of(made))


def test_a_key_for_one_run_is_asked_about_faces_before_anything_is_released(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with_a_head(home)
    whole = hands.release
    monkeypatch.setattr(hands, "release", lambda *given: pytest.fail("released before it asked"))
    assert release(home) == 2
    assert "--faces deface" in capsys.readouterr().err
    monkeypatch.setattr(hands, "release", whole)
    assert release(home, "--faces", "refuse") == 3
    assert "11 of 71 files released" in capsys.readouterr().out


def test_where_nobody_has_a_face_nothing_is_asked(home: Path) -> None:
    ct(home / "in" / "small")
    ct(home / "in" / "body", count=9, seed=1)
    assert release(home) == 0


def test_a_release_of_a_project_goes_on_with_the_answer(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_a_head(home)
    mine = ["--project", str(home / "project")]
    assert main(["deidentify", "project", "create", *mine]) == 0
    assert release(home, *mine) == 2
    assert "--faces deface" in capsys.readouterr().err
    assert release(home, *mine, "--faces", "refuse") == 3
    assert "11 of 71 files released" in capsys.readouterr().out


@pytest.mark.parametrize("way", [[], ["--format", "vault"]])
def test_what_was_interrupted_is_not_said_to_be_signed(
    home: Path, way: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ct(home / "in")
    monkeypatch.setattr(deidentify, "interruptible", lambda at_hand: nullcontext(stopped))
    stopped = threading.Event()
    stopped.set()
    assert release(home, *way) == 3
    told = capsys.readouterr().out
    assert "interrupted" in told
    assert "signed by" not in told
    assert "no release yet" in told
    assert "name a --project" in told


def test_what_not_even_resampling_makes_a_volume_is_told_so(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(2):
        made = phantom.dataset(number, ImagePositionPatient=None)
        (home / "in" / f"{number}.dcm").write_bytes(phantom.file_of(made))
    assert release(home, "--format", "nifti") == 3
    assert "or resample it" in capsys.readouterr().out
    (home / "out").rename(home / "first")
    assert release(home, "--format", "nifti", "--resample") == 3
    told = capsys.readouterr().out
    assert "or resample it" not in told
    assert "not_a_volume: the series fits the format not even resampled" in told


def test_no_warning_quotes_a_value(home: Path, recwarn: pytest.WarningsRecorder) -> None:
    for path in ct(home / "in").iterdir():
        with pydicom.config.disable_value_validation():
            header = pydicom.dcmread(path)
            header.StudyTime, header.StudyDate = "12:33:44", "2001.01.02"
            header.save_as(path)
    assert release(home) == 0
    assert not [one for one in recwarn if issubclass(one.category, UserWarning)]
