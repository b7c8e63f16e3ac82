"""The patient's own values, collected from every header of the patient: what must not come out anywhere.

References
----------
DICOM PS3.5 6.2.1 (person names: component groups, carets), PS3.6 (tags).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag

from voxelvault.deid.folding import fold, words
from voxelvault.deid.model import Person
from voxelvault.deid.normal import Stored, as_sequence, stored
from voxelvault.deid.values import text_of
from voxelvault.deid.words import is_known
from voxelvault.dicom.charset import encodings_of
from voxelvault.dicom.vr import public_vr

IDS = frozenset({
    0x00080050,  # AccessionNumber
    0x00100020, 0x00101000, 0x00101050, 0x00101090,  # PatientID, other IDs, insurance plan, record locator
    0x00120040, 0x00120042,  # ClinicalTrialSubjectID, …ReadingID
    0x00200010,  # StudyID
    0x00380010, 0x00380060,  # AdmissionID, ServiceEpisodeID
    0x00400009, 0x00400253, 0x00401001,  # IDs of the scheduled and performed step and the requested procedure
    0x00402016, 0x00402017,  # order numbers of placer and filler
    0x0040050A, 0x00400512, 0x00400551, 0x004006FA,  # specimen accession, container, specimen, slide
    0x40080040, 0x40080200,  # ResultsID, InterpretationID
})  # fmt: skip
"""Elements that hold the patient's or the examination's identifiers."""

ADDRESSES = frozenset({
    0x00080092, 0x00080094,  # referring physician's address and telephone
    0x00101040, 0x00102154, 0x00102155,  # patient's address, telephone, telecom
    0x00102152,  # RegionOfResidence
    0x00380400,  # PatientInstitutionResidence
    0x00401102, 0x00401103, 0x00401104,  # a person's address, telephone, telecom
    0x00402010, 0x00402011,  # order's call-back telephone, telecom
    0x4008011A,  # DistributionAddress
})  # fmt: skip
"""Elements that tell where somebody lives or is reached."""

PLACES = frozenset({
    0x00080080, 0x00080081, 0x00081010, 0x00081040,  # institution, its address, station, department
    0x00100021,  # IssuerOfPatientID
    0x00102299,  # ResponsibleOrganization
    0x00120030, 0x00120031,  # ClinicalTrialSiteID, …SiteName
    0x00160049, 0x0016004D,  # camera's owner
    0x00181000, 0x00181004, 0x00181007, 0x00181008, 0x0018700A,  # device, plate, cassette, gantry, detector
    0x00321033,  # RequestingService
    0x00380300,  # CurrentPatientLocation
    0x00400010, 0x00400011, 0x00400242, 0x00400243,  # stations and locations of the steps
    0x00401005, 0x00402009, 0x00404036,  # procedure's location, enterer's location, performer's organization
    0x0040A027,  # VerifyingOrganization
})  # fmt: skip
"""Elements that name places and devices."""

BIRTH_DATES = frozenset({0x00100030, 0x00100033})
_WANTED = IDS | ADDRESSES | PLACES | BIRTH_DATES
_CHARSET, _DEFAULT = Tag(0x00080005), encodings_of(b"")
MAX_DEPTH = 64


def collect(datasets: Iterable[Dataset], subject: str) -> Person:
    """Collect a patient's own values from the headers of all the patient's files.

    Every name is taken, of whomever: physicians and operators may stand in text as the patient may.

    Parameters
    ----------
    datasets : iterable of Dataset
        One a file; pixels are not needed.
    subject : str
        What the patient's pseudonyms are made of.

    Returns
    -------
    Person
        `names`: component groups as they stand, with carets; `dates`: dates of birth alone, for
        these are never moved; `texts`: addresses, telephones, places and devices.

    Raises
    ------
    RecursionError
        Never: nesting beyond `MAX_DEPTH` is not followed.
    """
    names: set[str] = set()
    ids: set[str] = set()
    dates: set[str] = set()
    texts: set[str] = set()
    for dataset in datasets:
        for tag, vr, value in _values(dataset, 0, _DEFAULT):
            if vr == "PN":
                names |= {group.strip() for group in value.split("=")}
            elif tag in IDS:
                ids.add(value)
            elif tag in ADDRESSES or (tag in PLACES and not _tells_nothing(value)):
                texts.add(value)
            elif tag in BIRTH_DATES:
                dates.add(value.replace(".", "").replace("-", ""))
    return Person(
        subject,
        frozenset(names - {""}),
        frozenset(ids),
        frozenset(d for d in dates if d.isdecimal()),
        frozenset(texts),
    )


def name_words(name: str) -> list[str]:
    """Return the folded words of a name's component group, titles left out.

    Parameters
    ----------
    name : str
        As it stands in a header: ``Müller-Lüdenscheidt^Karl Heinz^^Dr.``

    Returns
    -------
    list of str
        In order; initials too.
    """
    return [word for word in words(fold(name)) if word not in TITLES]


TITLES = frozenset(
    "dr prof mr mrs ms miss md phd dds do pa rn np jr sr ii iii iv herr frau dott mme mlle sir med univ "
    "dipl ing mba facr tech rt rad radtech mta none na nn xx unknown anonymous anonymized anon ct mri "
    "us xr".split()
)
"""Words of a name that name nobody."""


def _tells_nothing(place: str) -> bool:
    """Say whether a place is one clinical word, such as the department Radiology."""
    found = words(fold(place))
    return not found or (len(found) == 1 and is_known(found[0]))


def _values(dataset: Dataset, depth: int, encodings: tuple[str, ...]) -> Iterator[tuple[int, str, str]]:
    """Yield tag, VR and text of what may be somebody's; what can't be read is no text.

    Texts are decoded from what the file holds, as they are for cleaning; most of a header is numbers.
    """
    if _CHARSET in dataset:
        encodings = encodings_of(_bytes(stored(dataset.get_item(_CHARSET))))
    for tag, element in list(dataset.items()):
        number = int(tag)
        vr = _vr_of(number, element.VR)
        if vr == "SQ" and depth < MAX_DEPTH:
            for item in _items(dataset, tag, encodings):
                yield from _values(item, depth + 1, encodings)
        elif vr == "PN" or number in _WANTED:
            found = stored(element)
            text = text_of(_bytes(found), vr, found.encodings or encodings)
            values = (part.strip(" \0") for part in text.split("\\"))
            yield from ((number, vr, value) for value in values if value)


def _vr_of(tag: int, vr: str | None) -> str:
    """Return the VR that counts: a name may stand in its element under whatever VR."""
    if tag >> 16 & 1:
        return "SQ" if vr in (None, "UN") else vr
    public = public_vr(tag)
    return vr or public if public == "UN" or vr in ("PN", "SQ") else public


def _items(dataset: Dataset, tag: BaseTag, encodings: tuple[str, ...]) -> Sequence | tuple[()]:
    found = stored(dataset.get_item(tag))
    if found.vr == "SQ" and not isinstance(found.value, Sequence):
        try:
            value = dataset[tag].value
        except Exception:  # pydicom raises what it likes; the rewriting refuses such files
            return ()
        return value if isinstance(value, Sequence) else ()
    return as_sequence(found, encodings) or ()


def _bytes(found: Stored) -> bytes:
    return found.value if isinstance(found.value, bytes) else b""


__all__ = ["ADDRESSES", "BIRTH_DATES", "IDS", "PLACES", "TITLES", "collect", "name_words"]
