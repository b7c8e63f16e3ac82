"""UIDs of results: the same analysis of the same content has the same ones, so it is written once."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass

from voxelvault_triage.model import Analysis


def derived_uid(*parts: str) -> str:
    """Return a UID that depends on nothing but `parts`, of which the first says for what.

    References
    ----------
    DICOM PS3.5 B.2 (UUID derived UID), RFC 9562 5.8 (UUID version 8).
    """
    digest = bytearray(hashlib.sha256("\0".join(("voxelvault result", *parts)).encode()).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    return f"2.25.{uuid.UUID(bytes=bytes(digest)).int}"


@dataclass(frozen=True, slots=True)
class ResultUIDs:
    """The UIDs of what is written for one analysis.

    Parameters
    ----------
    key : tuple of str
        Study, content, pipeline, version and model; and the how manieth time it is that the study has
        this content, where it had another in between.
    """

    key: tuple[str, ...]

    @classmethod
    def of(cls, analysis: Analysis) -> ResultUIDs:
        """Return those of an analysis."""
        study = analysis.study
        return cls((study.study_id, study.content, analysis.pipeline, analysis.version, analysis.model))

    def again(self, time: int) -> ResultUIDs:
        """Return those of the same analysis once more, after another content had its turn."""
        return ResultUIDs((*self.key[:5], str(time)))

    def instance(self, kind: str, number: int = 1) -> str:
        """Return the SOP Instance UID of one object: ``SEG``, ``SR``, ``SC``."""
        return derived_uid("instance", *self.key, kind, str(number))

    def series(self, kind: str) -> str:
        """Return the Series Instance UID of one kind of object."""
        return derived_uid("series", *self.key, kind)

    @property
    def device(self) -> str:
        """UID of the algorithm as an observer."""
        return derived_uid("device", *self.key[2:5])

    def tracking(self, what: str) -> str:
        """Return the UID under which later reports of this pipeline on the study name the same thing."""
        return derived_uid("tracking", self.key[0], self.key[2], what)


__all__ = ["ResultUIDs", "derived_uid"]
