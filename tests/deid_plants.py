"""Unique values planted in a data set's header, in every place where they have been found to hide.

It knows the standard and the list of places, not the rules: what is planted must not come out of a
de-identifier that wasn't told to retain it.
"""

from __future__ import annotations

import base64
import gzip
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from pydicom.datadict import DicomDictionary  # type: ignore[attr-defined]
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

CONSONANTS, VOWELS = "bdfgklmnprtvz", "aeiou"
TEXTS = {"LO": 64, "SH": 16, "ST": 1024, "LT": 10240, "UT": 10240, "UC": 64, "PN": 64}
PUBLIC_TEXT = (
    0x00080104, 0x00081190, 0x00180022, 0x00180024, 0x00181020, 0x00081090, 0x00080070, 0x00283003,
    0x00620005, 0x00620006, 0x300A00C2, 0x00180085, 0x00181210, 0x00181250, 0x00209056, 0x00189005,
    0x00409210, 0x00700080, 0x00700081, 0x00181261, 0x00541103, 0x00281055, 0x00660036, 0x00189041,
    0x00480106, 0x00120063, 0x00420012, 0x0040A160, 0x00620020, 0x00400032, 0x00080115,
)  # fmt: skip
NESTS = (0x00409096, 0x00082218, 0x00400260, 0x00081115, 0x52009229)
"""Sequences that the table doesn't name."""


class Plant(NamedTuple):
    """What was planted where: `needles` are all forms that must not come out."""

    place: str
    needles: tuple[bytes, ...]


class Planter:
    """Plants into one data set, reproducibly."""

    def __init__(self, dataset: Dataset, seed: int) -> None:
        self._random = random.Random(seed)
        self._elements: dict[int, RawDataElement | DataElement] = {
            int(tag): one for tag, one in dataset.items()
        }
        self._source = dataset
        self.plants: list[Plant] = []

    def planted(self) -> Dataset:
        """Plant in every place and return the data set."""
        for plant in (
            self._listed_text, self._unlisted_text, self._nested, self._unassigned, self._private,
            self._sequences,
            self._wrong_vr, self._encoded, self._character_sets, self._uids, self._numbers,
            self._removed, self._text,
        ):  # fmt: skip
            plant()
        made = Dataset({Tag(tag): one for tag, one in sorted(self._elements.items())})
        made.file_meta = self._source.file_meta
        made.file_meta.SourceApplicationEntityTitle = self._note("meta AE", self._word(10).upper())
        made.file_meta.PrivateInformationCreatorUID = "1.2.3"
        made.file_meta.PrivateInformation = self._note("meta private", self._word(12)).encode()
        made.preamble = self._note("preamble", self._word(14)).encode().ljust(128, b"\0")  # type: ignore[attr-defined]
        return made

    def _word(self, size: int = 10) -> str:
        """Return a word that no vocabulary has."""
        letters = [self._random.choice((CONSONANTS, VOWELS)[place % 2]) for place in range(size - 2)]
        return "Q" + "".join(letters) + self._random.choice("xw")

    def _digits(self, size: int) -> str:
        return self._random.choice("123456789") + "".join(
            self._random.choice("0123456789") for _ in range(size - 1)
        )

    def _note(self, place: str, value: str, *needles: bytes) -> str:
        forms = {value.encode(), value.upper().encode(), *needles}
        self.plants.append(Plant(place, tuple(forms)))
        return value

    def _put(
        self, tag: int, vr: str, value: bytes, where: dict[int, RawDataElement | DataElement] | None = None
    ) -> None:
        value += b"\0" * (len(value) % 2)
        (self._elements if where is None else where)[tag] = raw(tag, vr, value)

    def _listed_text(self) -> None:
        tags = [0x00080080, 0x00080081, 0x00081030, 0x0008103E, 0x00081010, 0x00081040, 0x00081070,
            0x00100010, 0x00100020,
                0x00101000, 0x00101040, 0x001021B0, 0x00104000, 0x00180010, 0x00181030, 0x00204000,
                0x00321060, 0x00400254,
                0x00401400, 0x00402400, 0x40000010, 0x00100012, 0x00100016, 0x00080050, 0x00200010,
                0x00181000]  # fmt: skip
        for tag in tags:
            vr = DicomDictionary[tag][0] if tag in DicomDictionary else "LO"
            self._put(tag, vr, self._note(f"listed {tag:08X}", self._word()).encode())

    def _unlisted_text(self) -> None:
        for tag in PUBLIC_TEXT:
            vr = DicomDictionary[tag][0]
            word = self._word(min(TEXTS.get(vr, 14), 12))
            self._put(
                tag, vr, self._note(f"unlisted {tag:08X}", word.upper() if vr == "CS" else word).encode()
            )
        word = self._note("ImageType value 3", self._word(12).upper())
        self._put(0x00080008, "CS", b"ORIGINAL\\PRIMARY\\" + word.encode())

    def _nested(self) -> None:
        for depth in (1, 2, 4):
            inner: dict[int, RawDataElement | DataElement] = {}
            for tag, vr in (
                (0x00100010, "PN"),
                (0x00080080, "LO"),
                (0x00081090, "LO"),
                (0x0040A123, "PN"),
                (0x00187004, "CS"),
            ):
                word = self._note(f"{tag:08X} nested {depth}", self._word())
                self._put(tag, vr, word.upper().encode() if vr == "CS" else word.encode(), inner)
            self._put(0x00111010, "LO", self._note(f"private nested {depth}", self._word()).encode(), inner)
            self._put(0x00110010, "LO", b"A MAKER", inner)
            item = inner
            for level in range(depth):
                item = {NESTS[level]: sequence(NESTS[level], item)}
            self._elements.update(item)

    def _unassigned(self) -> None:
        for number, vr in enumerate(("LO", "UT", "OB", "UN", "PN"), 0x00181FF6):
            self._put(number, vr, self._note(f"unassigned {vr}", self._word(12)).encode())
        self._put(0x00280199, "LO", self._note("retired range", self._word()).encode())

    def _private(self) -> None:
        self._put(0x00190010, "LO", b"SIEMENS MR HEADER")
        for number, vr in enumerate(("LO", "PN", "UI", "UN", "OB", "UT", "IS"), 0x001910A0):
            value = (
                self._digits(9) if vr == "IS" else f"1.2.3.{self._digits(9)}" if vr == "UI" else self._word()
            )
            self._put(number, vr, self._note(f"unsafe element of a safe creator {vr}", value).encode())
        self._put(0x00230010, "LO", self._note("private creator", self._word(12)).encode())
        self._put(0x00231001, "LO", b"A")
        self._put(0x00251001, "LO", self._note("private without creator", self._word()).encode())
        inner: dict[int, RawDataElement | DataElement] = {}
        self._put(0x00100010, "PN", self._note("private sequence", self._word()).encode(), inner)
        self._elements[0x00191099] = sequence(0x00191099, inner)

    def _sequences(self) -> None:
        for place, tag, wrapped in (
            ("UN private", 0x00191098, "UN"),
            ("UN public", 0x0040A390, "UN"),
            ("OB", 0x00401001, "OB"),
        ):
            word = self._note(f"implicit sequence within {place}", self._word(12)).encode()
            inner = struct.pack("<HHI", 0x0010, 0x4000, len(word)) + word
            self._put(tag, wrapped, struct.pack("<HHI", 0xFFFE, 0xE000, len(inner)) + inner)

    def _wrong_vr(self) -> None:
        for tag, vr in (
            (0x00102160, "UN"),
            (0x00380300, "OB"),
            (0x00102154, "UT"),
            (0x00280002, "LO"),
            (0x00180081, "UN"),
            (0x00200032, "LO"),
        ):
            self._put(tag, vr, self._note(f"{tag:08X} as {vr}", self._word(12)).encode())

    def _encoded(self) -> None:
        ways: dict[str, Callable[[bytes], bytes]] = {
            "base64": base64.b64encode,
            "hex": lambda data: data.hex().encode(),
            "zlib": lambda data: zlib.compress(data, 0),
            "gzip": lambda data: gzip.compress(data, 0, mtime=0),
            "UTF-16": lambda data: data.decode().encode("utf-16-le"),
            "XML": lambda data: b"<a><b>" + data + b"</b></a>",
        }
        for number, (name, how) in enumerate(ways.items()):
            for place, tag, vr in (
                ("private", 0x001910B0, "OB"),
                ("private text", 0x001910C0, "UT"),
                ("descriptor", 0x00189080, "ST"),
            ):
                word = self._word(14)
                form = how(word.encode())
                self._put(tag + (number if tag >> 16 & 1 else 0), vr, form)
                if tag >> 16 & 1 or number == len(ways) - 1:
                    self._note(f"{name} in {place}", word, form)
        word = self._word(14)
        self._put(
            0x00189004,
            "CS",
            self._note("hex in CS", word, word.encode().hex().upper().encode())
            .encode()
            .hex()
            .upper()
            .encode(),
        )

    def _character_sets(self) -> None:
        word, name = self._word(), "王小東"
        self._put(0x00080090, "PN", f"{word}^A={name}=Yan".encode("gb18030"))
        self._note("PN groups", word, name.encode("gb18030"), name.encode())
        greek = "Παπαδοπούλου"
        self._put(0x00081048, "PN", greek.encode("iso8859-7"))
        self._note("wrong character set", greek, greek.encode("iso8859-7"))
        wide = "".join(chr(ord(letter) + 0xFEE0) for letter in self._word())
        self._put(0x00081080, "LO", self._note("full-width", wide).encode())

    def _uids(self) -> None:
        for tag in (0x00080014, 0x00083010, 0x00200052, 0x00200200, 0x00209161, 0x00209164, 0x0020000D,
            0x0020000E, 0x00080018,
                    0x00404023, 0x00620021, 0x0070031A, 0x00181002, 0x0040A124, 0x30060024,
                    0x00081195):  # fmt: skip
            self._put(tag, "UI", self._note(f"UID {tag:08X}", f"1.2.826.0.1.{self._digits(12)}").encode())
        uid = self._note("UID in text", f"1.2.826.0.1.{self._digits(12)}")
        self._put(0x00082111, "ST", f"AXIAL {uid} CT".encode())

    def _numbers(self) -> None:
        for tag in (0x00200012, 0x00200011, 0x00280008, 0x00181150, 0x00180089):
            self._put(tag, "IS", self._note(f"IS {tag:08X}", self._digits(9)).encode())
        for tag in (0x00180050, 0x00181110, 0x00189318):
            vr = DicomDictionary[tag][0]
            value = self._note(f"{vr} {tag:08X}", self._digits(10)).encode()
            self._put(tag, vr, value if vr == "DS" else value[:8])

    def _removed(self) -> None:
        for tag, inner in (
            (0x04000561, 0x00100010),
            (0x04000550, 0x00100010),
            (0xFFFAFFFA, 0x04000305),
            (0x00880200, 0x00204000),
        ):
            item: dict[int, RawDataElement | DataElement] = {}
            self._put(
                inner, DicomDictionary[inner][0], self._note(f"within {tag:08X}", self._word()).encode(), item
            )
            self._elements[tag] = sequence(tag, item)
        for tag, vr in (
            (0xFFFCFFFC, "OB"),
            (0x00160071, "UT"),
            (0x00282000, "OB"),
            (0x50002500, "LO"),
            (0x50000022, "LO"),
            (0x50003000, "OB"),
        ):
            self._put(tag, vr, self._note(f"{tag:08X}", self._word(14)).encode())
        self._put(0x00281101, "US", struct.pack("<3H", 256, 0, 16))
        palette = (
            bytes(100)
            + self._note("palette", self._word(14)).encode()
            + bytes(398)
            + self._note("behind the palette", self._word(14)).encode()
        )
        self._put(0x00281201, "OW", palette)

    def _text(self) -> None:
        pick = self._random
        plants = {
            "place": f"{pick.uniform(-80, 80):.5f}, {pick.uniform(10, 99):.5f}",
            "date": f"{pick.randint(1, 28)}.{pick.randint(1, 12):02}.19{pick.randint(40, 69)}",
            "long number": self._digits(9),
            "mail": f"{self._word().lower()}@example.org",
            "phone": f"+43 1 {self._digits(7)}",
        }
        words = "AXIAL CT " + " ".join(self._note(f"{name} in text", value) for name, value in plants.items())
        self._put(0x00204000, "LT", words.encode())


def raw(tag: int, vr: str, value: bytes) -> RawDataElement:
    return RawDataElement(Tag(tag), vr, len(value), value, 0, False, True)


def sequence(tag: int, item: dict[int, RawDataElement | DataElement]) -> DataElement:
    elements = {Tag(one): element for one, element in item.items()}
    return DataElement(Tag(tag), "SQ", Sequence([Dataset(elements)]))


def survivors(plants: list[Plant], data: bytes) -> Iterator[str]:
    """Name the places whose plant is in the bytes of a file."""
    for plant in plants:
        if any(len(needle) > 3 and needle in data for needle in plant.needles):
            yield plant.place
