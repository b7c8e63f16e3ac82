"""Reading the catalog, and what a session may change: each an audit entry."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from voxelvault import plugins
from voxelvault.audit.events import Event, Kind
from voxelvault.dicom.vr import tags_by_keyword
from voxelvault.policy.access import Request, require
from voxelvault.resources import Resources
from voxelvault.storage.codecs import own_names

if TYPE_CHECKING:
    from voxelvault.catalog.user_sql import UserSession

HARMLESS = frozenset(
    """
    select distinct from where group by order having limit offset as and or not in is null true false
    case when then else end join left using on with union all asc desc between filter over partition
    count sum avg min max median round coalesce length unnest list cast double integer bigint varchar
    series studies instances stacks frames packs n
    modality bodypartexamined laterality patientposition manufacturer manufacturermodelname
    slicethickness spacingbetweenslices kvp convolutionkernel magneticfieldstrength mracquisitiontype
    scanningsequence sequencevariant units reconstructiondiameter gantrydetectortilt
    sopclassuid transfersyntaxuid imagetype rows columns numberofframes samplesperpixel
    photometricinterpretation bitsallocated bitsstored pixelrepresentation pixelspacing
    imagerpixelspacing rescaleslope rescaleintercept windowcenter windowwidth echotime echonumbers
    repetitiontime inversiontime flipangle diffusionbvalue viewposition imagelaterality
    presentationintenttype burnedinannotation lossyimagecompression completionflag verificationflag
    samples dtype codec stored pixels version superseded stack frame planarconfiguration
    """.split()
)
"""Words of queries whose results name nobody: tables, columns without identifiers, plain SQL."""

_LITERAL = re.compile(r"'(?:[^']|'')*'|\b\d+(?:\.\d+)?\b")
_COUNT_ALL = re.compile(r"count\s*\(\s*\*\s*\)", re.IGNORECASE)


_TABLES = "series|studies|instances|stacks|frames|packs"
_FROM_TABLE = re.compile(rf"\b(?:from|join)\s+(?:{_TABLES})\b")
_WHOLE_ROW = re.compile(rf"\b(?:{_TABLES})\b(?!\s*\.)")
_EVERY_COLUMN = re.compile(r"\*|\bcolumns\s*\(|(?:^|[(;]|\bunion|\ball)\s*from\b")
"""All columns without naming one: `*`, `columns('…')`, and a query that begins with FROM."""


_HIDING = re.compile(r"--|/\*|\$|\\")
"""Comments, dollar quotes and escapes, in which a quote is no quote."""


def identifies(query: str) -> bool:
    """Tell whether a query's result may identify somebody; a word that isn't known to be harmless does."""
    if _HIDING.search(query):
        return True
    bare = _LITERAL.sub(" ", _COUNT_ALL.sub("count", query)).lower().strip()
    if _EVERY_COLUMN.search(bare) or not set(re.findall(r"\w+", bare)) <= HARMLESS:
        return True
    # A table's name where no table belongs is a whole row of it.
    return bool(_WHOLE_ROW.search(_FROM_TABLE.sub(" ", bare)))


def names_identity(column: str) -> bool:
    """Tell whether a column is called as a DICOM attribute is that may identify, however it is spelt."""
    return "".join(filter(str.isalnum, column.lower())) in _identifying_keywords()


@cache
def _identifying_keywords() -> frozenset[str]:
    return frozenset(keyword.lower() for keyword in tags_by_keyword()) - HARMLESS


def mentions_audit(query: str) -> bool:
    """Tell whether a query needs the audit log as a table."""
    return re.search(r"\baudit\b", query, re.IGNORECASE) is not None


def log_query(resources: Resources, query: str) -> None:
    """Ask the policy and enter a query in the log, before it runs."""
    kind = Kind.IDENTIFYING_READ if identifies(query) else Kind.QUERY
    require(resources.policy, Request(kind, (), resources.purpose, resources.who))
    resources.audit.append([Event(kind=kind, who=resources.who, purpose=resources.purpose, text=query)])


class MissingCodec(UserWarning):
    """Frames of the vault can't be read here: the package whose codec stored them is missing."""


def codec_warnings(resources: Resources) -> list[str]:
    """Say which codecs frames of this vault need, and no package here adds."""
    stored = resources.catalog.query("select distinct codec from stacks")["codec"].to_pylist()
    foreign = {resources.settings.codec, *stored} - own_names()
    # Looking through installed packages takes a while: only where there is something to look for.
    here = {plugin.name for plugin in plugins.listed(plugins.CODECS, own_names())} if foreign else set()
    return [
        f"this vault needs the codec {name!r} of a package that is not installed here; frames that other "
        "codecs stored can be read, for the rest install it as it was on the machine that stored them"
        for name in sorted(foreign - here)
    ]


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


class Sessions:
    """The session that a user's queries run in; another one as soon as the catalog has changed."""

    def __init__(self) -> None:
        self._open: tuple[str, UserSession] | None = None

    def fresh(self, resources: Resources) -> UserSession:
        """Return a session of the catalog as it is now."""
        digest = resources.catalog.head().digest
        if self._open is None or self._open[0] != digest:
            self.drop()
            self._open = digest, resources.catalog.user_session(extra=None)
        return self._open[1]

    def drop(self) -> None:
        """Close it: the next query makes another."""
        if self._open is not None:
            self._open[1].close()
            self._open = None
