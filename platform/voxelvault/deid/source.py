"""A file as it came, read by both parsers: once, for all who look into it."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from functools import cached_property

from pydicom import dcmread
from pydicom.dataset import Dataset

from voxelvault.deid.model import Refused
from voxelvault.dicom import charset
from voxelvault.dicom.part10 import Part10, parse
from voxelvault.dicom.read import Header

_CHARACTER_SET = 0x00080005


@dataclass(frozen=True, eq=False)
class Source:
    """One file.

    Parameters
    ----------
    data : bytes
        The file.
    part10 : Part10
        As the project's parser has it: pixels and the second reader go by it.
    dataset : Dataset
        As pydicom has it: the elements are rewritten from it.
    """

    data: bytes = field(repr=False)
    part10: Part10 = field(repr=False)
    dataset: Dataset = field(repr=False)

    @cached_property
    def header(self) -> Header:
        """The header by keyword.

        Raises
        ------
        TooLarge
            It would take more memory than any real header.
        """
        return Header.from_part10(self.part10)

    def text(self, tag: int) -> str:
        """Return the first value of a text at the root, without its padding; empty where there is none."""
        encodings = charset.encodings_of(self.part10.value(_CHARACTER_SET))
        return charset.decode(self.part10.value(tag), encodings).split("\\")[0].strip("\0 ")


def read_source(data: bytes) -> Source:
    """Read a file.

    Raises
    ------
    Refused
        One of the parsers can't read it to its end.
    """
    try:
        return Source(data, parse(data), dcmread(io.BytesIO(data), force=True))
    except Exception:  # pydicom raises what it likes, and quotes values in it
        raise Refused("data_set_malformed") from None


__all__ = ["Source", "read_source"]
