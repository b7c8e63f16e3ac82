"""Values planted in real files, in every place of a header where they hide, are gone from the bytes."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.errors import InvalidDicomError

from deid_plants import Planter, survivors
from voxelvault.deid.apply import rewrite
from voxelvault.deid.conformance import mark
from voxelvault.deid.model import Context, Option, Rewritten
from voxelvault.deid.person import collect
from voxelvault.deid.profile import Profile, profile
from voxelvault.deid.pseudonym import ProjectPseudonyms
from voxelvault.deid.text import TextCleaner
from voxelvault.deid.writing import file_bytes

CLEANING = (
    Option.CLEAN_DESCRIPTORS,
    Option.CLEAN_GRAPHICS,
    Option.CLEAN_STRUCTURED,
    Option.RETAIN_MODIFIED_DATES,
    Option.RETAIN_SAFE_PRIVATE,
)
RETAINING = {
    Option.RETAIN_DEVICE: ("00181000", "00081010", "UID 00181002", "unlisted 00181250"),
    Option.RETAIN_INSTITUTION: ("00080080", "00080081", "00081040"),
    Option.RETAIN_PATIENT_CHARACTERISTICS: ("001021B0", "00102160", "00104000"),
    Option.RETAIN_UIDS: ("UID",),
}
SETS = {
    "basic": (profile("basic"), ()),
    "research": (profile("research"), ()),
    "all that cleans": (profile("basic", CLEANING), ()),
    **{option.value: (profile("research", [option]), places) for option, places in RETAINING.items()},
}


@pytest.mark.shared
@pytest.mark.parametrize("name", SETS)
def test_no_plant_survives(shared_dicom: Path, name: str) -> None:
    policy, retained = SETS[name]
    files = sorted(
        path for path in shared_dicom.rglob("*") if path.is_file() and path.stat().st_size < 1 << 20
    )
    leaks: Counter[str] = Counter()
    planted = 0
    for number, path in enumerate(files[::3]):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                source = pydicom.dcmread(path)
            except InvalidDicomError:
                continue
            if not isinstance(getattr(source, "file_meta", None), FileMetaDataset):
                continue
            leaks.update(_leaks(Planter(source, number), policy))
        planted += 1
    assert planted > 10
    assert {place: count for place, count in leaks.items() if not any(one in place for one in retained)} == {}


def _leaks(planter: Planter, policy: Profile) -> list[str]:
    source = planter.planted()
    person = collect([source], "subject")
    pseudonyms = ProjectPseudonyms(bytes(32), "test")
    days = pseudonyms.days("subject") if Option.RETAIN_MODIFIED_DATES in policy.options else None
    cleaner = TextCleaner(person, uid=pseudonyms.uid, days=days)
    result = rewrite(source, Context(policy, pseudonyms, person, cleaner))
    mark(result, result.applied)
    return list(survivors(planter.plants, file_bytes(result)))


@pytest.mark.shared
def test_plants_stand_in_the_source(shared_dicom: Path) -> None:
    source = pydicom.dcmread(next(iter(sorted(shared_dicom.rglob("CT_small.dcm")))))
    planter = Planter(source, 1)
    there = set(survivors(planter.plants, file_bytes(Rewritten(planter.planted()))))
    missing = {plant.place for plant in planter.plants} - there
    assert len(there) > 150
    # File meta and preamble are always written anew, and one place was planted in twice.
    assert missing <= {"listed 00204000", "FD 00189318", "meta AE", "meta private", "preamble"}
