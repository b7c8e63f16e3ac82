"""Reading the catalog, and what a session may change: each an audit entry."""

from __future__ import annotations

import re

from voxelvault.audit.events import Event, Kind
from voxelvault.policy.access import Request, require
from voxelvault.resources import Resources

IDENTIFYING = (
    "patients",
    "header",
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "OtherPatientIDs",
    "AccessionNumber",
    "ReferringPhysicianName",
    "source",
)
"""Words of a query after which its result may name somebody."""

_IDENTIFYING = re.compile(rf"\b({'|'.join(IDENTIFYING)})\b|\*|\bcolumns\s*\(", re.IGNORECASE)
_COUNT_STAR = re.compile(r"count\s*\(\s*\*\s*\)", re.IGNORECASE)


def identifies(query: str) -> bool:
    """Tell whether a query may read identifying columns; when in doubt it does."""
    return bool(_IDENTIFYING.search(_COUNT_STAR.sub("count()", query)))


def mentions_audit(query: str) -> bool:
    """Tell whether a query needs the audit log as a table."""
    return re.search(r"\baudit\b", query, re.IGNORECASE) is not None


def log_query(resources: Resources, query: str) -> None:
    """Ask the policy and enter a query in the log, before it runs."""
    kind = Kind.IDENTIFYING_READ if identifies(query) else Kind.QUERY
    require(resources.policy, Request(kind, (), resources.purpose, resources.who))
    resources.audit.append([Event(kind=kind, who=resources.who, purpose=resources.purpose, text=query)])


class VaultOptions:
    """What a session may change.

    Parameters
    ----------
    resources : Resources
        The open vault.
    """

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    @property
    def identifying(self) -> bool:
        """Whether reprs and `show` may name people; notebooks keep what they print."""
        return self._resources.options.identifying

    @identifying.setter
    def identifying(self, value: bool) -> None:
        resources = self._resources
        resources.audit.append(
            [
                Event(
                    kind=Kind.OPTION_CHANGED,
                    who=resources.who,
                    purpose=resources.purpose,
                    codes={"option": ("identifying",), "value": ("on" if value else "off",)},
                )
            ]
        )
        resources.options.identifying = bool(value)

    @property
    def verify_reads(self) -> bool:
        """Whether each frame read is compared with its SHA-256; for series opened from now on."""
        return self._resources.options.verify_reads

    @verify_reads.setter
    def verify_reads(self, value: bool) -> None:
        self._resources.options.verify_reads = bool(value)

    @property
    def threads(self) -> int | None:
        """Threads for encoding and decoding; None: the processor's cores."""
        return self._resources.options.threads

    @threads.setter
    def threads(self, value: int | None) -> None:
        self._resources.options.threads = value

    def __repr__(self) -> str:
        return (
            f"<options: identifying={self.identifying}, verify_reads={self.verify_reads},"
            f" threads={self.threads}>"
        )


def summary(resources: Resources) -> dict[str, object]:
    """Return counts of the vault: nothing that names anybody."""
    query = resources.catalog.query
    counts = query(
        "select (select count(*) from patients where merged_into is null) as subjects,"
        " (select count(*) from studies) as studies, (select count(*) from series) as series,"
        " (select count(*) from instances) as instances,"
        " (select count(*) from quarantine where not resolved) as quarantined,"
        " (select count(*) from conflicts where not resolved) as conflicts,"
        " (select coalesce(sum(length), 0)::BIGINT from instances) as bytes"
    ).to_pylist()[0]
    modalities = query(
        "select coalesce(Modality, 'none') as Modality, count(*) as n from series"
        " group by all order by n desc, Modality"
    ).to_pylist()
    return {**counts, "modalities": ", ".join(f"{row['Modality']} {row['n']}" for row in modalities)}
