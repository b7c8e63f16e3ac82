"""Whom and what a report is about, out of its header: as values that FHIR and HL7 v2 can take."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from voxelvault.dicom.read import Header


@dataclass(frozen=True, slots=True)
class About:
    """Patient and study of a report; an empty string for what is unknown or no value of its type.

    Parameters
    ----------
    patient_id, issuer : str
        PatientID and IssuerOfPatientID.
    name : tuple of str
        Family, given, middle names, prefix and suffix of the alphabetic name.
    birth_date : str
        YYYYMMDD.
    sex : str
        M, F, O.
    accession, study_uid, description : str
        AccessionNumber, StudyInstanceUID, StudyDescription.
    study_date : str
        YYYYMMDD.
    """

    patient_id: str
    issuer: str
    name: tuple[str, ...]
    birth_date: str
    sex: str
    accession: str
    study_uid: str
    description: str
    study_date: str

    @classmethod
    def of(cls, header: Header) -> About:
        """Read it from a report's header."""

        def text(keyword: str) -> str:
            return str(header.get(keyword) or "").strip()

        sex = text("PatientSex").upper()
        parts = [part.strip() for part in text("PatientName").split("=")[0].split("^")]
        return cls(
            text("PatientID"),
            text("IssuerOfPatientID"),
            tuple((parts + [""] * 5)[:5]),
            _date(text("PatientBirthDate")),
            sex if sex in ("M", "F", "O") else "",
            text("AccessionNumber"),
            text("StudyInstanceUID"),
            text("StudyDescription"),
            _date(text("StudyDate")),
        )


def _date(text: str) -> str:
    try:
        return datetime.strptime(text.replace(".", ""), "%Y%m%d").strftime("%Y%m%d")
    except ValueError:
        return ""


__all__ = ["About"]
