"""What the card of a release tells: counted from the released files themselves, never from the source."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from hashlib import blake2b

from pydicom.uid import UID

from voxelvault.deid.card import Facts
from voxelvault.deid.k_anonymity import KAnonymity, quasi_identifiers
from voxelvault.deid.model import Option
from voxelvault.deid.profile import Profile
from voxelvault.deid.receipt import Terms
from voxelvault.deid.scratch import temporary
from voxelvault.dicom.part10 import Part10
from voxelvault.dicom.read import Header
from voxelvault.dicom.vr import tags_by_keyword
from voxelvault.resources import Resources

_CHARSET = 0x00080005
_COUNTED = (
    "SOPClassUID",
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "BodyPartExamined",
    "PatientWeight",
)
_PET = "PT"
_CHARACTERISTICS = Option.RETAIN_PATIENT_CHARACTERISTICS


class Tally:
    """Counts what a release holds, one header after the other; holds none of them.

    Parameters
    ----------
    chosen : Profile
        The rules in force: they say what stayed that may point at somebody.
    """

    def __init__(self, chosen: Profile) -> None:
        self._kept_weight = _CHARACTERISTICS in chosen.options
        self._unweighed = 0
        self._columns = quasi_identifiers(chosen.options, chosen.kept_by_site())
        self._anonymity = KAnonymity(self._columns)
        self._of_ids = _limits_of_ids(chosen)
        known = tags_by_keyword()
        self._tags = [_CHARSET, *(known[name] for name in (*_COUNTED, *self._columns) if name in known)]
        self._classes: Counter[str] = Counter()
        self._modalities: Counter[str] = Counter()
        self._body_parts: Counter[str] = Counter()
        self._key = os.urandom(32)
        self._rows = temporary("create table series (series blob primary key, study blob, patient blob)")

    def add(self, header: Header) -> None:
        """Count a file."""
        self._classes[UID(str(header.get("SOPClassUID") or "")).name] += 1
        patient, study, series = (
            str(header.get(name) or "") for name in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")
        )
        digests = (self._digest(study + "/" + series), self._digest(study), self._digest(patient))
        if self._rows.execute("insert or ignore into series values (?, ?, ?)", digests).rowcount:
            self._anonymity.add(patient, {name: header.get(name) for name in self._columns})
            self._modalities[str(header.get("Modality") or _NONE)] += 1
            self._body_parts[str(header.get("BodyPartExamined") or _NONE)] += 1
            self._unweighed += header.get("Modality") == _PET and not header.get("PatientWeight")

    def add_file(self, file: Part10) -> None:
        """Count a file, of which only what is counted is converted."""
        few = {tag: file.dataset[tag] for tag in self._tags if tag in file.dataset}
        self.add(Header.from_part10(replace(file, dataset=few)))

    def facts(
        self, terms: Terms, *, refused: int, faces: str, pattern: str, media_type: str = "application/dicom"
    ) -> Facts:
        """Return what was counted.

        Parameters
        ----------
        terms : Terms
            Of the receipts.
        refused : int
            Files that were left out.
        faces : str
            What was done about faces.
        pattern : str
            Glob of the images; empty for a vault.
        media_type : str
            Of the images.
        """
        patients, studies, series = self._rows.execute(
            "select count(distinct patient), count(distinct study), count(*) from series"
        ).fetchone()
        return Facts(
            name=f"release {terms.release_id[:8]}",
            terms=terms,
            counts={
                "patients": patients,
                "studies": studies,
                "series": series,
                "files": self._classes.total(),
                "refused": refused,
            },
            modalities=dict(sorted(self._modalities.items())),
            classes=dict(sorted(self._classes.items())),
            body_parts=dict(sorted(self._body_parts.items())),
            anonymity=self._anonymity.report(),
            faces=faces,
            pattern=pattern,
            media_type=media_type,
            limits=tuple(self._limits()),
        )

    def _limits(self) -> Iterator[str]:
        """Yield what a reader of just these files will miss."""
        yield from self._of_ids
        if self._unweighed:
            how = "" if self._kept_weight else f": release with --option {_CHARACTERISTICS.value} to keep it"
            count = f"{self._unweighed} PET series {'has' if self._unweighed == 1 else 'have'}"
            yield f"{count} no PatientWeight, so that SUV can't be computed{how}."

    def _digest(self, text: str) -> bytes:
        return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, key=self._key).digest()


def _limits_of_ids(chosen: Profile) -> tuple[str, ...]:
    if chosen.one_patient_id():
        return (_ONE_ID,)
    return (_IDS_OF_SITE,) if chosen.patient_id_by_site() else ()


_NONE = "not told"
_ONE_ID = (
    "A site's rule gives one PatientID or none to all: patients can't be told apart, all count as one in the"
    " figures above, and the way back from that ID names everybody."
)
_IDS_OF_SITE = (
    "A site's rule made PatientID from the source's alone: people whose IDs come out alike, such as those of"
    " two issuers, count as one patient in the figures above, and the way back names each of them."
)


def vault_headers(resources: Resources) -> Iterator[Header]:
    """Yield the header of each instance of a release that is a vault, series by series."""
    series = resources.catalog.query("select series_id from series order by 1")["series_id"].to_pylist()
    for series_id in series:
        rows = resources.catalog.query(
            "select header from instances where series_id = $series and not superseded",
            {"series": series_id},
        )
        for text in rows["header"].to_pylist():
            yield Header.from_json(text)


__all__ = ["Tally", "vault_headers"]
