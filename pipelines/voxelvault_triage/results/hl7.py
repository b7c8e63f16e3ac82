"""A result as HL7 v2.5 text: one ORU^R01 message, UTF-8.

References
----------
HL7 v2.5 chapter 2 (encoding, escaping), chapter 7 (ORU, OBR, OBX); tables 0085, 0078, 0396.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence

from voxelvault_triage.model import Verdict
from voxelvault_triage.results.about import About
from voxelvault_triage.results.fhir import VOLUME, conclusion
from voxelvault_triage.results.reading import Recorded
from voxelvault_triage.results.vocabulary import SCHEME, Code

_ESCAPES = str.maketrans(
    {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\", "\r": "\\X0D\\", "\n": "\\X0A\\"}
)

SCORE = Code("score", SCHEME, "Score, 0 to 1")
UNCERTAINTY = Code("uncertainty", SCHEME, "Standard deviation of the score")
STUDY = Code("113014", "DCM", "DICOM Study")
PROCEDURE = Code("18748-4", "LN", "Diagnostic imaging study")
COMMENT = Code("121106", "DCM", "Comment")

PRESENT = {
    Verdict.POSITIVE: (Code("121053", "DCM", "Present"), "A"),
    Verdict.NEGATIVE: (Code("121054", "DCM", "Absent"), "N"),
    Verdict.NOT_ANALYSED: (Code("121059", "DCM", "Presence Undetermined"), ""),
}
"""What OBX-5 and OBX-8 say of a verdict."""


def escaped(text: str) -> str:
    """Return text that can stand in a field: delimiters escaped, other control characters left out."""
    kept = "".join(sign for sign in text if sign in "\r\n" or (ord(sign) >= 32 and ord(sign) != 127))
    return kept.translate(_ESCAPES)


def oru_r01(result: Recorded) -> str:
    """Return a result as an unsolicited observation message.

    Parameters
    ----------
    result : Recorded
        As `read_result` gives it, of a patient who has an id: PID-3 can't be empty. Its status is preliminary
        (P), or X where nothing was analysed.

    Returns
    -------
    str
        Segments, each ended by a carriage return. It names the patient.
    """
    about = About.of(result.header)
    time = result.written.strftime("%Y%m%d%H%M%S%z")
    segments = [_msh(result, time), _pid(about), _obr(result, about, time), *_observations(result, about)]
    return "".join(f"{segment}\r" for segment in segments)


def _segment(name: str, *fields: str) -> str:
    return "|".join([name, *fields]).rstrip("|")


def _coded(code: Code) -> str:
    return "^".join(escaped(part) for part in (code.value, code.meaning, code.scheme))


def _msh(result: Recorded, time: str) -> str:
    control = hashlib.sha256(result.SOPInstanceUID.encode()).hexdigest()[:20]
    fields = ["^~\\&", "VOXELVAULT", escaped(result.pipeline), "", "", time, "", "ORU^R01^ORU_R01", control]
    return _segment("MSH", *fields, "P", "2.5", *[""] * 5, "UNICODE UTF-8")


def _pid(about: About) -> str:
    identifier = escaped(about.patient_id)
    identifier += f"^^^{escaped(about.issuer)}" if about.patient_id and about.issuer else ""
    family, given, middle, prefix, suffix = map(escaped, about.name)
    # PID-5 can't be empty: U says that the name isn't told (table 0200).
    name = "^".join((family, given, middle, suffix, prefix)).rstrip("^") or "^^^^^^U"
    return _segment("PID", "1", "", identifier, "", name, "", about.birth_date, about.sex)


def _obr(result: Recorded, about: About, time: str) -> str:
    procedure = result.procedure if result.procedure.scheme == "LN" else PROCEDURE
    order = escaped(about.accession)
    filler = f"{result.instance_id[:16]}^VOXELVAULT"
    status = "X" if result.verdict is Verdict.NOT_ANALYSED else "P"
    fields = ["1", order, filler, _coded(procedure), "", "", about.study_date]
    # OBR-18 is where radiology has the accession number (IHE RAD TF-2).
    return _segment("OBR", *fields, *[""] * 10, order, "", "", "", time, "", "", status)


def _observations(result: Recorded, about: About) -> Iterator[str]:
    named = Counter[str]()
    for number, row in enumerate(_rows(result, about), 1):
        kind, name, value, *rest = row
        units, range_, flags, status = (*rest, *[""] * 4)[:4]
        # OBX-4 tells apart those of one name.
        named[name] += 1
        head = [str(number), kind, name, str(named[name]), value]
        yield _segment("OBX", *head, units, range_, flags, "", "", status or "P")


def _rows(result: Recorded, about: About) -> Iterator[Sequence[str]]:
    """Yield type, identifier, value, units, range, flags and status of each observation."""
    present, flag = PRESENT[result.verdict]
    status = "X" if result.verdict is Verdict.NOT_ANALYSED else "P"
    yield "CWE", _coded(result.finding), _coded(present), "", "", flag, status
    if result.score is not None:
        one = "1^no units^UCUM"
        yield "NM", _coded(SCORE), f"{result.score:g}", one, f"<{result.threshold or 0:g}", flag
        yield "NM", _coded(VOLUME), f"{result.volume_ml or 0:g}", "mL^mL^UCUM"
        if result.uncertainty:
            yield "NM", _coded(UNCERTAINTY), f"{result.uncertainty:g}", one
        for name, score in result.types.items():
            yield "NM", _coded(Code(name, SCHEME, f"Score of {name}")), f"{score:g}", one
    # One a sentence: receivers cut long text.
    for sentence in conclusion(result):
        yield "TX", _coded(COMMENT), escaped(sentence), "", "", "", status
    model = f"model {result.model_name or 'SHA-256'} {result.model}" if result.model else "no model"
    algorithm = f"pipeline {result.pipeline} {result.version}, {model}"
    yield "ST", _coded(Code("algorithm", SCHEME, "Algorithm")), escaped(algorithm)
    yield "ST", _coded(STUDY), escaped(about.study_uid)


__all__ = ["escaped", "oru_r01"]
