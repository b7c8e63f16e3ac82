"""What the card of a release tells: counted from the released files themselves, never from the source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydicom.uid import UID

from voxelvault.deid.card import Facts, FileOf
from voxelvault.deid.k_anonymity import k_anonymity, quasi_identifiers
from voxelvault.deid.model import Option
from voxelvault.deid.receipt import Terms
from voxelvault.dicom.part10 import parse
from voxelvault.dicom.read import Header
from voxelvault.resources import Resources


def facts(
    headers: Iterable[Header],
    terms: Terms,
    options: Iterable[Option],
    *,
    refused: int,
    faces: str,
    files: Sequence[FileOf],
    pattern: str,
    media_type: str = "application/dicom",
) -> Facts:
    """Count what a release holds.

    Parameters
    ----------
    headers : iterable of Header
        One a file.
    terms : Terms
        Of the receipts.
    options : iterable of Option
        In force.
    refused : int
        Files that were left out.
    faces : str
        What was done about faces.
    files : sequence of FileOf
        What else the card names.
    pattern : str
        Glob of the images; empty for a vault.
    media_type : str
        Of the images.
    """
    columns = quasi_identifiers(options)
    classes: Counter[str] = Counter()
    studies: set[str] = set()
    series: dict[str, tuple[str, dict[str, Any]]] = {}
    for header in headers:
        classes[UID(str(header.get("SOPClassUID") or "")).name] += 1
        studies.add(str(header.get("StudyInstanceUID")))
        key = str(header.get("SeriesInstanceUID"))
        if key not in series:
            row = {name: header.get(name) for name in (*columns, "Modality", "BodyPartExamined")}
            series[key] = (str(header.get("PatientID") or ""), row)
    counts = {
        "patients": len({patient for patient, _ in series.values()}),
        "studies": len(studies),
        "series": len(series),
        "files": sum(classes.values()),
        "refused": refused,
    }
    return Facts(
        name=f"release {terms.release_id[:8]}",
        terms=terms,
        counts=counts,
        modalities=_counted(row.get("Modality") for _, row in series.values()),
        classes=dict(sorted(classes.items())),
        body_parts=_counted(row.get("BodyPartExamined") for _, row in series.values()),
        anonymity=k_anonymity(series.values(), columns),
        faces=faces,
        files=files,
        pattern=pattern,
        media_type=media_type,
    )


def _counted(values: Iterable[Any]) -> dict[str, int]:
    return dict(sorted(Counter(str(value or "not told") for value in values).items()))


def folder_headers(folder: Path) -> Iterator[Header]:
    """Yield the header of each released file below a folder."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        yield Header.from_part10(parse(path.read_bytes()))


def vault_headers(resources: Resources) -> Iterator[Header]:
    """Yield the header of each instance of a release that is a vault."""
    rows = resources.catalog.query("select header from instances where not superseded")
    for text in rows["header"].to_pylist():
        yield Header.from_json(text)


__all__ = ["facts", "folder_headers", "vault_headers"]
