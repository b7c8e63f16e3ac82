"""Values that nobody else has, planted where patients' values hide, and a search for what came through.

Independent of the rules of `voxelvault.deid`: it knows where values can stand in a file, and reads
from a table of PS3.15, which the caller gives, what a choice of options may keep. Seeded.
"""

from __future__ import annotations

import base64
import io
import random
import re
import string
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count

from ahocorasick_rs import BytesAhoCorasick
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID

Row = Mapping[str, str]

TEXT_VRS = ("LO", "SH", "PN", "ST", "LT", "UT", "UC", "AE", "UR")


@dataclass(frozen=True)
class Planted:
    """One value in one place.

    Parameters
    ----------
    value : str
        What must not come out.
    place : str
        Where it was put, in words.
    kept_by : frozenset of str
        Columns of the table with which it may stay as it is.
    """

    value: str
    place: str
    kept_by: frozenset[str] = frozenset()


@dataclass
class Planter:
    """Makes values and remembers them.

    Parameters
    ----------
    seed : int
        The same one makes the same values.
    """

    seed: int
    planted: list[Planted] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)

    def word(self, place: str, kept_by: Iterable[str] = (), length: int = 10) -> str:
        """Return a new word of consonants, which no vocabulary holds."""
        letters = "".join(self._dice.choices("BCDFGHJKLMNPQRSTVWXZ", k=length))
        return self._new(letters.capitalize(), place, kept_by)

    def number(self, place: str, kept_by: Iterable[str] = (), digits: int = 9) -> str:
        """Return a new whole number without a leading zero."""
        return self._new(
            self._dice.choice("123456789") + "".join(self._dice.choices(string.digits, k=digits - 1)),
            place,
            kept_by,
        )

    def uid(self, place: str, kept_by: Iterable[str] = ()) -> str:
        """Return a new UID."""
        return self._new(f"1.3.6.1.4.1.5962.99.{self._dice.randrange(10**15, 10**16)}", place, kept_by)

    def date(self, place: str, kept_by: Iterable[str] = ()) -> str:
        """Return a date of this patient, YYYYMMDD."""
        dice = self._dice.randrange
        # No two elements of a file have one day, or keeping the one would look like leaking the other.
        taken = {one.value for one in self.planted}
        days = (f"19{dice(30, 90):02}{dice(1, 13):02}{dice(10, 29)}" for _ in count())
        day = next(day for day in days if day not in taken)
        return self._new(day, place, kept_by)

    def _new(self, value: str, place: str, kept_by: Iterable[str]) -> str:
        self.planted.append(Planted(value, place, frozenset(kept_by)))
        return value


def plant(source: Dataset, table: Sequence[Row], seed: int) -> tuple[Dataset, list[Planted]]:
    """Return a data set with values in every place that its elements offer.

    Parameters
    ----------
    source : Dataset
        Left as it is.
    table : sequence of mapping
        Rows of PS3.15 Table E.1-1: `tag`, `keyword`, `vr`, and a column an option.
    seed : int
        Of the values.
    """
    planter = Planter(seed)
    made = Dataset()
    made.update(source)
    if hasattr(source, "file_meta"):
        made.file_meta = source.file_meta
    for put in PLACES:
        put(made, planter, table)
    return made, planter.planted


def _listed(made: Dataset, planter: Planter, table: Sequence[Row]) -> None:
    for row in table:
        _plant_row(made, planter, row, "table")


def _plant_row(target: Dataset, planter: Planter, row: Row, where: str) -> None:
    """Put a value into an element of the table, as far as its VR holds one that can be told."""
    if not re.fullmatch(r"[0-9A-F]{8}", row["tag"]) or row["tag"].startswith(("0000", "0002", "0004")):
        return
    tag, vr = int(row["tag"], 16), row["vr"].split(" ")[0]
    if tag in _STRUCTURE or tag in _TIMES_OF_DAY:
        return
    place = f"{where} {row['keyword']}"
    kept = [name for name, action in row.items() if name.startswith("retain_") and action in ("K", "C")]
    if vr in TEXT_VRS:
        target.add_new(tag, vr, planter.word(place, kept))
    elif vr == "UI":
        target.add_new(tag, vr, planter.uid(place, kept))
    elif vr == "DA":
        target.add_new(tag, vr, planter.date(place, kept))
    elif vr == "DT":
        target.add_new(tag, vr, planter.date(place, kept) + "121314.5+0100")
    elif vr == "IS":
        target.add_new(tag, vr, planter.number(place, kept))


_STRUCTURE = frozenset([0x00080016, 0x00080018, 0x0020000D, 0x0020000E, 0x00080008, 0x00420011])
"""Without which a file would be another object."""
_TIMES_OF_DAY = frozenset([0x00080201])


def _nested(made: Dataset, planter: Planter, table: Sequence[Row]) -> None:
    rows = {row["keyword"]: row for row in table}
    wanted = [
        *(
            "PatientName",
            "PatientID",
            "PatientAddress",
            "InstitutionName",
            "OperatorsName",
            "AccessionNumber",
        ),
        *("DeviceSerialNumber", "StationName", "StudyDate", "PatientBirthDate", "ReferringPhysicianName"),
    ]
    inner = Dataset()
    for keyword in wanted:
        if keyword in rows:
            _plant_row(inner, planter, rows[keyword], "four deep")
    for keyword in ("SourceImageSequence", "PurposeOfReferenceCodeSequence", "ReferencedSeriesSequence"):
        outer = Dataset()
        setattr(outer, keyword, Items([inner]))
        inner = outer
    made.ReferencedStudySequence = Items([inner])
    for keyword in (
        "ContributingEquipmentSequence",
        "RequestAttributesSequence",
        "SpecimenDescriptionSequence",
    ):
        item = Dataset()
        for name in wanted:
            if name in rows:
                _plant_row(item, planter, rows[name], f"in {keyword}")
        setattr(made, keyword, Items([item]))


def _newer(made: Dataset, planter: Planter, table: Sequence[Row]) -> None:
    for tag in (0x00100012, 0x00100016):
        made.add(DataElement(tag, "UN", planter.word(f"newer than the dictionary {tag:08X}").encode()))
    for tag in range(0x00181FF6, 0x00181FFE, 2):
        made.add(DataElement(tag, "LO", planter.word(f"unassigned {tag:08X}")))


UNLISTED = (
    *("ScanOptions", "SequenceName", "SequenceVariant", "SoftwareVersions", "ManufacturerModelName"),
    *("RetrieveURL", "ProtocolName", "FilterType", "ConvolutionKernel", "CollimatorType"),
    *("BodyPartExamined", "ViewPosition", "PhotometricInterpretation", "Manufacturer"),
    *(
        "DerivationDescription",
        "ReceiveCoilName",
        "TransmitCoilName",
        "ContrastBolusAgent",
        "RadiopharmaceuticalRoute",
    ),
    *("ImagedNucleus", "PositionReferenceIndicator", "VolumetricProperties", "WindowCenterWidthExplanation"),
)
"""Public attributes outside the table, in which a hurried technician may write anything."""


def _unlisted(made: Dataset, planter: Planter, table: Sequence[Row]) -> None:
    listed = {row["keyword"] for row in table}
    for keyword in UNLISTED:
        if keyword not in listed and keyword != "PhotometricInterpretation":
            value = planter.word(f"unlisted {keyword}")
            setattr(made, keyword, value.upper() if keyword in _CODED else value)
            if keyword in _CODED:
                planter.planted[-1] = Planted(value.upper(), f"unlisted {keyword}")
    made.ImageType = ["ORIGINAL", "PRIMARY", planter.word("unlisted ImageType").upper()]
    planter.planted[-1] = Planted(made.ImageType[2], "unlisted ImageType")
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator = planter.word("code value"), "99LOCAL"
    code.CodeMeaning = planter.word("code meaning")
    made.ProcedureCodeSequence = made.AnatomicRegionSequence = Items([code])
    table_item = Dataset()
    table_item.LUTExplanation = planter.word("LUT explanation")
    made.ModalityLUTSequence = Items([table_item])


_CODED = frozenset(
    [
        "ScanOptions",
        "SequenceVariant",
        "BodyPartExamined",
        "ViewPosition",
        "CollimatorType",
        "VolumetricProperties",
    ]
)


def _private(made: Dataset, planter: Planter, table: Sequence[Row]) -> None:
    block = made.private_block(0x0099, planter.word("private creator"), create=True)
    for number, vr in enumerate(("LO", "PN", "UT", "SH")):
        block.add_new(number, vr, planter.word(f"private {vr}"))
    block.add_new(0x10, "UI", planter.uid("private UI"))
    block.add_new(0x11, "IS", planter.number("private IS"))
    block.add_new(0x12, "OB", planter.word("private OB").encode())
    block.add_new(0x13, "UN", planter.word("private UN").encode())
    for number, (name, encode) in enumerate(BLOBS.items()):
        block.add_new(0x20 + number, "OB", _even(encode(planter.word(f"private {name}"))))
    item = Dataset()
    item.PatientName = planter.word("private SQ")
    block.add_new(0x14, "SQ", Items([item]))
    made.add(DataElement(0x00991000 + 0x4000, "LO", planter.word("private without creator")))
    safe = made.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    safe.add_new(0x77, "LO", planter.word("safe creator, unsafe element"))
    nested = Dataset()
    inner = nested.private_block(0x0099, planter.word("creator in a public sequence"), create=True)
    inner.add_new(0x01, "LO", planter.word("private in a public sequence"))
    made.ReferencedPerformedProcedureStepSequence = Items([nested])


BLOBS: Mapping[str, Callable[[str], bytes]] = {
    "zlib": lambda text: zlib.compress(text.encode() * 3),
    "gzip": lambda text: zlib.compress(text.encode() * 3, wbits=31),
    "base64": lambda text: base64.b64encode(b"name=" + text.encode()),
    "UTF-16": lambda text: text.encode("utf-16-le"),
    "hexadecimal": lambda text: text.encode().hex().encode(),
    "XML": lambda text: f"<name>{text}</name>".encode(),
}


def _disguised(made: Dataset, planter: Planter, table: Sequence[Row]) -> None:
    made.add(DataElement(0x00101001, "UN", planter.word("known tag as UN").encode()))
    made.add(DataElement(0x00102160, "UT", planter.word("known tag as UT", ["retain_patient_chars"])))
    made.add(DataElement(0x00321033, "OB", _even(planter.word("known tag as OB").encode())))
    hidden = Dataset()
    hidden.PatientName = planter.word("UN with an implicit sequence")
    made.add(DataElement(0x00181234 + 0x2, "UN", _implicit_item(hidden)))


def _implicit_item(item: Dataset) -> bytes:
    import pydicom

    buffer = pydicom.filebase.DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, True
    pydicom.filewriter.write_dataset(buffer, item)
    data = buffer.getvalue()
    return b"\xfe\xff\x00\xe0" + len(data).to_bytes(4, "little") + data


def _in_text(made: Dataset, planter: Planter, table: Sequence[Row]) -> None:
    name = planter.word("name in a description")
    made.SeriesDescription = f"T1 {name} axial"
    day = planter.date("date in a description", ["retain_long_full_dates"])
    made.StudyDescription = f"Head CT {day[6:]}.{day[4:6]}.{day[:4]} control"
    planter.planted[-1] = Planted(
        f"{day[6:]}.{day[4:6]}.{day[:4]}", "date in a description", frozenset(["retain_long_full_dates"])
    )
    made.ImageComments = f"seen in {planter.uid('UID in text', ['retain_uids'])} before"
    made.AcquisitionComments = f"phone {planter.number('phone in text')}"


def _signed(made: Dataset, planter: Planter, table: Sequence[Row]) -> None:
    before, changed = Dataset(), Dataset()
    before.PatientName = planter.word("original attributes")
    changed.ModifiedAttributesSequence = Items([before])
    changed.SourceOfPreviousValues = planter.word("source of previous values")
    made.OriginalAttributesSequence = Items([changed])
    signature = Dataset()
    signature.Signature = _even(planter.word("digital signature").encode())
    made.DigitalSignaturesSequence = Items([signature])
    made.add_new(0xFFFCFFFC, "OB", _even(planter.word("data set trailing padding").encode()))


def _pictures(made: Dataset, planter: Planter, table: Sequence[Row]) -> None:
    icon = Dataset()
    icon.add_new(0x7FE00010, "OB", _even(planter.word("icon image").encode()))
    made.IconImageSequence = Items([icon])
    made.add_new(0x60021500, "LO", planter.word("overlay label"))
    made.add_new(0x60020022, "LO", planter.word("overlay description"))
    made.add_new(0x60024000, "LT", planter.word("overlay comments"))
    made.add_new(0x50003000, "OW", _even(planter.word("curve data").encode()))
    annotation = Dataset()
    annotation.UnformattedTextValue = planter.word("waveform annotation")
    made.WaveformAnnotationSequence = Items([annotation])
    profile = b"\0" * 128 + b"desc" + planter.word("ICC profile").encode()
    made.ICCProfile = _even(profile)
    made.add_new(0x00160070, "LO", planter.word("GPS"))
    text, graphic = Dataset(), Dataset()
    text.UnformattedTextValue = planter.word("graphic text")
    graphic.TextObjectSequence = Items([text])
    graphic.GraphicLayer = planter.word("graphic layer").upper()
    planter.planted[-1] = Planted(graphic.GraphicLayer, "graphic layer")
    made.GraphicAnnotationSequence = Items([graphic])


def _names(made: Dataset, planter: Planter, table: Sequence[Row]) -> None:
    parts = [planter.word(f"name group {number}") for number in range(3)]
    made.PatientName = "=".join(f"{part}^Q" for part in parts)
    made.PatientID = planter.word("patient ID") + "-7"
    made.OtherPatientIDs = [planter.number("other patient ID")]
    made.PatientAddress = f"{planter.word('street')}weg 12, {planter.number('post code')}"


PLACES: Sequence[Callable[[Dataset, Planter, Sequence[Row]], None]] = (
    *(_listed, _nested, _newer, _unlisted, _private, _disguised, _in_text, _signed, _pictures, _names),
)


def _even(data: bytes) -> bytes:
    return data + bytes(len(data) % 2)


def written(made: Dataset, planter_word: Callable[[str], str], pixels: bytes | None = None) -> bytes:
    """Return a file with values where elements don't reach: preamble, file meta, behind the data set.

    Parameters
    ----------
    made : Dataset
        As `plant` returned it.
    planter_word : callable
        Makes a value for a place.
    pixels : bytes, optional
        Instead of the pixels of the data set; what is behind the last frame is the caller's.
    """
    made.preamble = _even(planter_word("preamble").encode()).ljust(128, b" ")
    meta = made.file_meta
    meta.SourceApplicationEntityTitle = planter_word("source AE title")[:16]
    meta.SendingApplicationEntityTitle = planter_word("sending AE title")[:16]
    meta.PrivateInformationCreatorUID = UID("1.2.3.4")
    meta.PrivateInformation = _even(planter_word("private information").encode())
    meta.add_new(0x00020026, "UR", planter_word("source presentation address"))
    if pixels is not None:
        made.PixelData = pixels
    target = io.BytesIO()
    made.save_as(target, enforce_file_format=False)
    return target.getvalue() + planter_word("behind the data set").encode()


def left(data: bytes, planted: Iterable[Planted], kept: Iterable[str] = (), moved: int = 0) -> list[Planted]:
    """Return the planted values that a file still holds, in any view that a reader could think of.

    Parameters
    ----------
    data : bytes
        The written file.
    planted : iterable of Planted
        What was put into the source.
    kept : iterable of str
        Columns of the table that are in force: what they may keep does not count.
    moved : int
        By how many days dates were moved: a date on which another one came to lie does not count.
    """
    allowed = set(kept)
    planted = list(planted)
    arrived = {_moved(one.value, moved) for one in planted if moved and len(one.value) == 8}
    wanted = [one for one in planted if not (one.kept_by & allowed) and one.value not in arrived]
    forms = [(form, one) for one in wanted for form in _forms(one.value)]
    if not forms:
        return []
    searcher = BytesAhoCorasick([form for form, _ in forms])
    hits: dict[Planted, None] = {}
    for view in map(bytes.upper, _views(data)):
        for number, start, stop in searcher.find_matches_as_indexes(view, overlapping=True):
            if not _within_a_number(view, start, stop):
                hits[forms[number][1]] = None
    return list(hits)


def _within_a_number(view: bytes, start: int, stop: int) -> bool:
    """Say whether digits that were found are part of a longer number, such as a UID, by chance."""
    around = view[max(start - 1, 0) : start] + view[stop : stop + 1]
    return view[start:stop].isdigit() and any(48 <= byte <= 57 for byte in around)


def _moved(day: str, days: int) -> str:
    try:
        return (datetime.strptime(day, "%Y%m%d") + timedelta(days)).strftime("%Y%m%d")
    except ValueError:
        return ""


def _forms(value: str) -> Iterator[bytes]:
    upper = value.upper()
    yield upper.encode()
    yield upper.encode("utf-16-le")
    for text in (value, upper, value.lower()):
        yield text.encode().hex().upper().encode()


_BASE64 = re.compile(rb"[A-Za-z0-9+/]{16,}={0,2}")


def _views(data: bytes) -> Iterator[bytes]:
    yield data
    for match in re.finditer(rb"\x78[\x01\x5e\x9c\xda]|\x1f\x8b\x08", data):
        bits = 31 if match[0][0] == 0x1F else 15
        try:
            yield zlib.decompressobj(bits).decompress(data[match.start() :], 1 << 16)
        except zlib.error:
            continue
    for match in _BASE64.finditer(data[: 1 << 20]):
        run = match[0].rstrip(b"=")
        yield base64.b64decode(run[: len(run) // 4 * 4])


__all__ = ["PLACES", "Planted", "Planter", "left", "plant", "written"]
