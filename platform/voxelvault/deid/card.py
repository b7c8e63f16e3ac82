"""A release's card: what is in it, how it was made, what it can't promise; for people and programs.

References
----------
MLCommons Croissant 1.0 (http://mlcommons.org/croissant/1.0), schema.org Dataset;
Gebru et al., Datasheets for Datasets, 2021.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from voxelvault.deid.k_anonymity import Report
from voxelvault.deid.receipt import Terms

RECEIPTS = "receipts.jsonl"
"""Name of a release's receipts, wherever it lies."""

LIMITS = (
    "Pixels are linkable: the same image in another release, or at its source, can be recognised.",
    "Text was cleaned by lists of words and the patient's own values; what neither knows was masked, "
    "so clinical words may be missing.",
    "Burned-in text is found by a text recogniser on the classes at risk. It reads most print; handwriting, "
    "and print smaller than nine pixels, it may miss.",
    "Rare findings, implants and unusual anatomy can point at a person; nothing here hides them.",
    "The receipts prove that the files are those that the project signed, not that no one can be recognised.",
)
"""What holds for every release."""

_DATED = (
    "Times of day are as they were, and dates of one patient keep their distances: a known sequence of "
    "examinations can be recognised."
)
_DATE_OPTIONS = {"113106", "113107"}
_FACES = {
    "deface": "Faces were removed from head scans where they could be made out.",
    "keep": "Faces in head scans were kept: they can be rendered and recognised.",
    "refuse": "Head scans in which a face could be made out were left out.",
}
_CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


@dataclass(frozen=True)
class Facts:
    """What the card tells.

    Parameters
    ----------
    name : str
        Of the release.
    terms : Terms
        Profile, options, edition and version, as in the receipts.
    counts : mapping of str to int
        `patients`, `studies`, `series`, `files`, `refused`.
    modalities, classes, body_parts : mapping of str to int
        Series by modality, files by SOP class (its name), series by body part.
    anonymity : Report
        From `k_anonymity`.
    faces : str
        `deface`, `keep`, `refuse`, or empty where there was none.
    pattern : str
        Glob of the images, such as ``**/*.dcm``; empty for a release that is a vault.
    media_type : str
        Of the images.
    description, licence, url, published : str
        By whom releases it; empty ones are left out.
    creators : sequence of str
        Organisations or people.
    limits : sequence of str
        What holds for this release beside `LIMITS`.
    """

    name: str
    terms: Terms
    counts: Mapping[str, int]
    modalities: Mapping[str, int]
    classes: Mapping[str, int]
    body_parts: Mapping[str, int]
    anonymity: Report
    faces: str = ""
    pattern: str = "**/*.dcm"
    media_type: str = "application/dicom"
    description: str = ""
    licence: str = ""
    url: str = ""
    published: str = ""
    creators: Sequence[str] = field(default=())
    limits: Sequence[str] = ()


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, such as 1 file and 2 files."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def markdown(facts: Facts) -> str:
    """Return the card for people."""
    terms = facts.terms
    parts = [
        f"# {_inline(facts.name)}",
        _inline(facts.description) or "De-identified medical images.",
        _table(("what", "how many"), facts.counts),
        "## How it was de-identified",
        f"Profile `{terms.profile}`, by the rules of DICOM PS3.15 Annex E, edition {terms.edition}; "
        f"codes of CID 7050: {', '.join(terms.options) or 'none'}. Made by voxelvault {terms.version}; "
        f"SHA-256 of all rules in force: `{terms.policy}`.",
        _FACES.get(facts.faces, ""),
        "Each written file was read again by a second reader and searched for the patient's own values. "
        "`voxelvault deidentify verify` checks the files against the signed receipts.",
        *_section("Modalities", ("modality", "series"), facts.modalities),
        *_section("Body parts", ("body part", "series"), facts.body_parts),
        *_section("Classes", ("SOP class", "files"), facts.classes),
        "## Who might be recognised by what stayed",
        *_anonymity(facts.anonymity),
        "## Known limits",
        "\n".join(f"- {_inline(limit)}" for limit in _limits(facts)),
        *_rights(facts),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def croissant(facts: Facts) -> str:
    """Return the card for programs: JSON-LD of MLCommons Croissant 1.0."""
    body: dict[str, Any] = {
        "@context": dict(_CONTEXT),
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": facts.name,
        "description": facts.description or "De-identified medical images.",
        "version": "1.0.0",
        "isLiveDataset": False,
        "keywords": sorted(["DICOM", "de-identified", *facts.modalities]),
        "distribution": [
            *_file_set("receipts", RECEIPTS, "application/jsonl"),
            *_file_set("images", facts.pattern, facts.media_type),
        ],
        "variableMeasured": [
            {"@type": "sc:PropertyValue", "name": name, "value": count}
            for name, count in facts.counts.items()
        ],
        "rai:personalSensitiveInformation": [
            f"De-identified by DICOM PS3.15 {facts.terms.edition}, profile {facts.terms.profile}, "
            f"codes {' '.join(facts.terms.options)}",
            f"smallest class of quasi-identifiers: {facts.anonymity.by_row.smallest}",
        ],
        "rai:dataLimitations": _limits(facts),
    }
    optional = {
        "license": facts.licence,
        "url": facts.url,
        "datePublished": facts.published,
        "creator": [{"@type": "sc:Organization", "name": name} for name in facts.creators],
    }
    body |= {name: value for name, value in optional.items() if value}
    return json.dumps(body, indent=2, ensure_ascii=False) + "\n"


def _file_set(name: str, pattern: str, media_type: str) -> list[dict[str, Any]]:
    """Return a set of files; the receipts sign for the card, so the card has no digest of theirs."""
    if not pattern:
        return []
    return [
        {
            "@type": "cr:FileSet",
            "@id": name,
            "name": name,
            "encodingFormat": media_type,
            "includes": pattern,
        }
    ]


def _anonymity(report: Report) -> list[str]:
    names = ", ".join(f"`{name}`" for name in report.columns) or "none"
    return [
        f"Quasi-identifiers that stayed: {names}. {counted(report.people, 'patient')}, {report.rows} series.",
        "| what somebody knows | smallest class (k) | of one patient alone | patients with one |\n"
        "|---|---|---|---|\n"
        + "\n".join(
            f"| {what} | {one.smallest} | {one.unique} | {one.people_alone} |"
            for what, one in (("one series", report.by_row), ("all series of a patient", report.by_person))
        ),
        _table(("patients who share a combination (one series)", "combinations"), report.by_row.histogram),
    ]


def _section(title: str, columns: tuple[str, str], counts: Mapping[str, int]) -> list[str]:
    if not counts:
        return []
    return [f"## {title}", _table(columns, dict(sorted(counts.items(), key=lambda one: (-one[1], one[0]))))]


def _table(columns: tuple[str, str], counts: Mapping[str, int]) -> str:
    head = f"| {columns[0]} | {columns[1]} |\n|---|---|\n"
    return head + "\n".join(f"| {_inline(name)} | {count} |" for name, count in counts.items())


def _limits(facts: Facts) -> list[str]:
    dated = _DATE_OPTIONS & set(facts.terms.options)
    return [*LIMITS, *([_DATED] if dated else []), *facts.limits]


def _rights(facts: Facts) -> list[str]:
    if not (facts.licence or facts.url or facts.creators):
        return []
    said = [("Licence", facts.licence), ("Creators", ", ".join(facts.creators)), ("Where", facts.url)]
    return ["## Use", "\n".join(f"- {name}: {_inline(value)}" for name, value in said if value)]


def _inline(text: str) -> str:
    """Return text that can't break a table or start a heading."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


__all__ = ["LIMITS", "RECEIPTS", "Facts", "counted", "croissant", "markdown"]
