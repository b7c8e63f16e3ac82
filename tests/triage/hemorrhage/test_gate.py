"""What may be analysed and what not, each with its reason, by geometry and content rather than by text."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest

import voxelvault
from heads_made import ct, head, torso
from voxelvault import Vault
from voxelvault.errors import DecodeError
from voxelvault.series import Series
from voxelvault.testing.synthetic_kinds import structured_report
from voxelvault.testing.synthetic_object import to_bytes
from voxelvault.testing.synthetic_series import CORONAL, mr_series
from voxelvault_triage.hemorrhage.choosing import choose
from voxelvault_triage.hemorrhage.gate import REASONS, missing_slices, placed_reasons
from voxelvault_triage.model import Gated, Study

ROOT = Path(__file__).resolve().parents[3]


HEAD = head()


def cut_short(files: list[bytes]) -> list[bytes]:
    """Return a series of which some files are half as long."""
    return [data[: len(data) // 2] if at in (3, 9, 10, 20) else data for at, data in enumerate(files)]


def oversized(data: bytes) -> bytes:
    """Return an image that claims more pixels than any file has."""
    made = pydicom.dcmread(io.BytesIO(data))
    made.Rows = made.Columns = 65535
    return to_bytes(made)


CASES: dict[str, tuple[str, Callable[[int], list[bytes]]]] = {
    "another modality": ("no-ct", lambda seed: mr_series(16, seed=seed)),
    "a report": ("no-ct", lambda seed: [structured_report()]),
    "a localizer": (
        "no-slices",
        lambda seed: ct(HEAD[:1], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], seed=seed),
    ),
    "a few slices": ("slices", lambda seed: ct(HEAD[:9], seed=seed)),
    "thick slices": ("thickness", lambda seed: ct(HEAD, SliceThickness=10, seed=seed)),
    "unknown thickness": ("thickness", lambda seed: ct(HEAD, SliceThickness=None, seed=seed)),
    "low voltage": ("kvp", lambda seed: ct(HEAD, KVP=70, seed=seed)),
    "contrast agent": ("contrast", lambda seed: ct(HEAD, ContrastBolusAgent="IOHEXOL", seed=seed)),
    "coronal slices": ("orientation", lambda seed: ct(HEAD, orientation=CORONAL, seed=seed)),
    "coarse pixels": ("pixel-size", lambda seed: ct(HEAD, pixel=1.6, seed=seed)),
    "a missing slice": ("gaps", lambda seed: ct(HEAD, leave_out=[12], seed=seed)),
    "files cut short": ("pixels", lambda seed: cut_short(ct(HEAD, seed=seed))),
    "the last file cut short": ("pixels", lambda seed: [*(made := ct(HEAD, seed=seed))[:-1], made[-1][:-99]]),
    "a size that isn't there": (
        "pixels",
        lambda seed: [oversized((made := ct(HEAD, seed=seed))[0]), *made[1:]],
    ),
    "wide steps": ("gaps", lambda seed: ct(HEAD, step=12.0, SliceThickness=5, seed=seed)),
    "too little": ("coverage", lambda seed: ct(head(16, 2.5), step=2.5, seed=seed)),
    "no rescale": ("rescale", lambda seed: ct(HEAD, RescaleIntercept=0, seed=seed)),
    "wrong rescale": ("rescale", lambda seed: ct(HEAD, RescaleIntercept=-700, seed=seed)),
    "cut by the field of view": ("field-of-view", lambda seed: ct(HEAD[:, 27:88, 29:86], seed=seed)),
    "a chest called head": ("body-part", lambda seed: ct(torso(), BodyPartExamined="HEAD", seed=seed)),
    "nothing but air": ("body-part", lambda seed: ct(np.full_like(HEAD, -1000.0), seed=seed)),
    "a head upside down": ("upside-down", lambda seed: ct(HEAD[::-1], seed=seed)),
    "a head": ("", lambda seed: ct(HEAD, seed=seed)),
    "a head called chest": (
        "",
        lambda seed: ct(HEAD, BodyPartExamined="CHEST", SeriesDescription="CHEST +C", seed=seed),
    ),
    "gantry tilt": ("", lambda seed: ct(HEAD, tilt=18.0, seed=seed)),
    "a step that changes on the way": (
        "",
        lambda seed: ct(HEAD, uneven=[4.0] * 13 + [1.1] + [7.0] * 11, seed=seed),
    ),
    "no contrast, said in words": ("", lambda seed: ct(HEAD, ContrastBolusAgent="NONE", seed=seed)),
    "thin slices": ("", lambda seed: ct(head(90, 1.25, noise=15.0), step=1.25, seed=seed)),
}
"""By name: the reason expected, none where it fits, and what makes the files of a seed."""


def study_of(vault: Vault, files: list[bytes]) -> Study:
    """Return the study that a file is of."""
    uid = str(pydicom.dcmread(io.BytesIO(files[0]), stop_before_pixels=True).StudyInstanceUID)
    rows = vault.sql("select study_id, subject_id from studies where StudyInstanceUID = ?", [uid]).fetchall()
    ((study_id, subject_id),) = rows
    return Study(study_id, subject_id, uid, "")


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Gated]]:
    """Take every case in, each a study of its own, and return what passes one through the gate."""
    folder = tmp_path_factory.mktemp("gate")
    (folder / "in").mkdir()
    cases = {name: made(seed) for seed, (name, (_, made)) in enumerate(CASES.items(), 1)}
    for number, files in enumerate(cases.values()):
        for at, file in enumerate(files):
            (folder / "in" / f"{number}-{at}.dcm").write_bytes(file)
    with voxelvault.create(folder / "vault", key_file=folder / "key") as vault:
        vault.ingest(folder / "in", progress=False)
        yield lambda name: choose(vault, study_of(vault, cases[name]))


@pytest.mark.parametrize("what", sorted(CASES))
def test_what_fits_and_what_says_why_not(gated: Callable[[str], Gated], what: str) -> None:
    code, found = CASES[what][0], gated(what)
    assert [reason.code for reason in found.reasons] == ([code] if code else [])
    assert found.fit == (not code)


def test_of_several_the_one_that_is_read_first(tmp_path: Path, configuration: Path) -> None:
    soft, bone = ct(HEAD, series=2), ct(HEAD, series=1, ConvolutionKernel="H70h")
    with_contrast = ct(HEAD, series=3, ContrastBolusAgent="IOHEXOL")
    (tmp_path / "in").mkdir()
    for at, file in enumerate([*bone, *soft, *with_contrast]):
        (tmp_path / "in" / f"{at}.dcm").write_bytes(file)
    with voxelvault.create(tmp_path / "vault", key_file=tmp_path / "key") as vault:
        vault.ingest(tmp_path / "in", progress=False)
        study = study_of(vault, soft)
        found = choose(vault, study)
        assert found.opened is not None
        with found.opened as series:
            assert series.header(0).get("ConvolutionKernel") == "H31s"


def test_every_reason_is_documented_and_names_nobody() -> None:
    page = (ROOT / "docs/reference/not-analysed.md").read_text()
    for code, sentence in REASONS.items():
        assert f"| `{code}` | {sentence} |" in page
    assert {code for code, _ in CASES.values()} | {"position"} == {*REASONS, ""}


def test_missing_slices_are_counted_and_changed_steps_are_not() -> None:
    assert missing_slices(np.array([5.0, 5, 10, 5])) == 1
    assert missing_slices(np.array([5.0, 15, 5, 5, 10, 5])) == 3
    assert missing_slices(np.array([4.0, 4, 4, 1.08, 7, 7, 7])) == 0
    assert missing_slices(np.array([2.5, 2.5, 5, 5, 5])) == 0
    assert missing_slices(np.array([202.5, 1.25, 1.25])) == 161
    assert missing_slices(np.array([5.0, 5, 10])) == 1
    assert missing_slices(np.array([5.0])) == 0
    (found,) = placed_reasons(np.full((20, 3), np.nan), None, None)
    assert found.code == "position"


@pytest.mark.shared
def test_real_heads_and_what_is_none(shared_dicom: Path, tmp_path: Path, configuration: Path) -> None:
    wanted = {
        "neurolabusc+dcm_qa_ct/In/GE": set[str](),
        "neurolabusc+dcm_qa_ct/In/Philips": {"body-part"},
        "icometrix+dicom2nifti/tests/data/failing/gantrytilting": {"slices", "thickness", "kvp"},
        "cornerstonejs+cornerstoneWADOImageLoader/testImages/CTImage.dcm": {"slices"},
    }
    with voxelvault.create(tmp_path / "vault", key_file=tmp_path / "key") as vault:
        for place, codes in wanted.items():
            vault.ingest(shared_dicom / place, progress=False)
            row = vault.sql(
                "select s.study_id, s.subject_id, StudyInstanceUID from studies s join packs using (study_id)"
                " order by created desc limit 1"
            ).fetchall()[0]
            found = choose(vault, Study(*row, ""))
            assert {reason.code for reason in found.reasons} == codes, place
            assert found.fit == (not codes)


def test_what_does_not_decode_is_said(
    tmp_path: Path, configuration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = ct(HEAD, seed=71)
    (tmp_path / "in").mkdir()
    for at, file in enumerate(files):
        (tmp_path / "in" / f"{at}.dcm").write_bytes(file)

    def broken(*_given: object) -> None:
        raise DecodeError("the codestream does not decode")

    with voxelvault.create(tmp_path / "vault", key_file=tmp_path / "key") as vault:
        vault.ingest(tmp_path / "in", progress=False)
        monkeypatch.setattr(Series, "frame", broken)
        found = choose(vault, study_of(vault, files))
    assert [reason.code for reason in found.reasons] == ["pixels"]
