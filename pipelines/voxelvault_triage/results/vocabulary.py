"""What a pipeline's findings are called: codes of the standards where there are any, ours where not.

References
----------
DICOM PS3.16 (SNOMED CT, LOINC and DCM codes that DICOM itself uses), PS3.3 8.2 (private schemes
begin with 99).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from voxelvault.errors import UsageError
from voxelvault_triage.pipeline import pipeline_named

SCHEME = "99VOXELVAULT"
"""Coding scheme of what no standard has a code for."""
SCHEME_UID = "2.25.171694204214555085278499524645064163090"
"""Of that scheme, for whoever meets it elsewhere (PS3.3 C.12.1.1, Coding Scheme UID); FHIR's ``urn:oid``."""


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept.

    Parameters
    ----------
    value, scheme, meaning : str
        As in PS3.3 8.1 to 8.3; `scheme` is ``SCT``, ``LN``, ``DCM`` or `SCHEME`.
    """

    value: str
    scheme: str
    meaning: str


# As LOINC itself calls them; DICOM has other words for both, and not the same in each context group.
HEAD_CT = Code("24725-4", "LN", "CT Head")
CT = Code("25045-6", "LN", "CT Unspecified body region")
IMAGING = Code("363679005", "SCT", "Imaging")

ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """How one pipeline's results are coded.

    Parameters
    ----------
    finding : Code
        What is looked for.
    segment : Code
        What the mask shows (segmented property type).
    label : str
        Of the segment; what `series.mask` takes.
    procedure : Code
        What was done to the patient, for the report's head.
    site : Code, optional
        Where in the body.
    types : mapping of str to Code
        Codes of the types that a model tells apart; others get one of ours.
    window : (float, float), optional
        Centre and width of the key image, in the unit of the values.
    category : Code
        What kind of thing the mask shows (segmented property category).
    severity : bool
        Scores say how far something is out of bounds, 0 to 1, and are no probabilities.
    """

    finding: Code
    segment: Code
    label: str
    procedure: Code = IMAGING
    site: Code | None = None
    types: Mapping[str, Code] = field(default_factory=dict)
    window: tuple[float, float] | None = None
    category: Code = ABNORMAL
    severity: bool = False

    def type_named(self, name: str) -> Code:
        """Return the code of a type; one of ours where the vocabulary has none."""
        return self.types.get(name) or Code(name[:64], SCHEME, f"{name[:48]} (type)")


GENERIC = Vocabulary(
    finding=Code("finding", SCHEME, "Finding of a pipeline"),
    segment=Code("region", SCHEME, "Region found by a pipeline"),
    label="finding",
)
"""For pipelines that say nothing of their own."""

HEMORRHAGE = Vocabulary(
    finding=Code("1386000", "SCT", "Intracranial hemorrhage"),
    segment=Code("50960005", "SCT", "Hemorrhage"),
    label="hemorrhage",
    procedure=HEAD_CT,
    site=Code("128319008", "SCT", "Intracranial structure"),
    window=(40.0, 80.0),
)
"""For the pipeline `head-ct-hemorrhage`; its types have codes of ours."""

GEOMETRY = Vocabulary(
    finding=Code("image-geometry", SCHEME, "Image geometry or quality out of bounds"),
    segment=Code("cut-body", SCHEME, "Body cut by the field of view"),
    label="cut body",
    procedure=CT,
    category=Code("309825002", "SCT", "Spatial and Relational Concept"),
    severity=True,
)
"""For the pipeline `ct-geometry-check`, which looks at images and says nothing about the patient."""

SHIPPED: Mapping[str, Vocabulary] = {"head-ct-hemorrhage": HEMORRHAGE, "ct-geometry-check": GEOMETRY}


def vocabulary_of(pipeline: str) -> Vocabulary:
    """Return the vocabulary of a pipeline: a shipped one, its own attribute `vocabulary`, or the generic."""
    if pipeline in SHIPPED:
        return SHIPPED[pipeline]
    try:
        found = getattr(pipeline_named(pipeline), "vocabulary", None)
    except UsageError:
        found = None
    return found if isinstance(found, Vocabulary) else GENERIC


__all__ = ["GENERIC", "HEMORRHAGE", "SCHEME", "SCHEME_UID", "Code", "Vocabulary", "vocabulary_of"]
