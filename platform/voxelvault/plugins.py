"""What other packages add: found by entry points, loaded only when asked for by name.

Groups are `voxelvault.codecs`, `voxelvault.ingest_sources`, `voxelvault.verbs`,
`voxelvault.key_providers` and, for triage, `voxelvault.pipelines`. A name of our own stays
ours; a package that fails costs what it brings, and nothing else.

References
----------
PyPA, Entry points specification.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from voxelvault.errors import PluginFailed, UsageError, VoxelVaultError

CODECS = "voxelvault.codecs"
INGEST_SOURCES = "voxelvault.ingest_sources"
VERBS = "voxelvault.verbs"
KEY_PROVIDERS = "voxelvault.key_providers"
PIPELINES = "voxelvault.pipelines"

NAME = re.compile(r"[a-z][a-z0-9-]{1,31}")
"""What a plug-in may be called: names stand in `vault.toml`, in catalogs and on command lines."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """One thing that a package adds.

    Parameters
    ----------
    group, name, package : str
        Entry point group, name in it, and the distribution that brings it.
    problem : str
        Why it can't be used; empty when it can be tried.
    """

    group: str
    name: str
    package: str
    problem: str = ""

    @property
    def ours(self) -> bool:
        """True for what comes with voxelvault itself, such as triage."""
        return self.package == "voxelvault"

    def __str__(self) -> str:
        what = f"{self.group.removeprefix('voxelvault.')} {self.name} ({self.package})"
        return f"{what}: {self.problem}" if self.problem else what


@cache
def _entries(group: str) -> dict[str, tuple[EntryPoint, ...]]:
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for entry in entry_points(group=group):
        # A package that is installed twice, once to be edited, is one package.
        others = [other for other in found.get(entry.name, ()) if _package(other) != _package(entry)]
        found[entry.name] = (*others, entry)
    return found


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "unknown package"


def listed(group: str, own: Collection[str]) -> list[Plugin]:
    """Return what packages add to a group, in order of names; nothing is loaded.

    Parameters
    ----------
    group : str
        Entry point group.
    own : collection of str
        Names that are ours.
    """
    return [
        Plugin(group, name, ", ".join(map(_package, entries)), _problem(name, entries, own))
        for name, entries in sorted(_entries(group).items())
    ]


def _problem(name: str, entries: Collection[EntryPoint], own: Collection[str]) -> str:
    if name in own:
        return "the name is voxelvault's own, so this is never used; rename it in its package"
    if not NAME.fullmatch(name):
        return "a name is 2 to 32 small letters, digits and dashes; rename it in its package"
    if len(entries) > 1:
        return "several packages add this name; uninstall all but one"
    return ""


def load(group: str, name: str, own: Collection[str] = ()) -> Any | None:
    """Load what a package adds under a name; None where none does.

    Parameters
    ----------
    group, name : str
        Entry point group and name.
    own : collection of str
        Names that are ours: they are not to be loaded here.

    Raises
    ------
    UsageError
        The name may not be used: it is ours, is no name, or two packages add it.
    PluginFailed
        The package fails; the message names it and the kind of error, nothing else.
    """
    entries = _entries(group).get(name)
    if not entries:
        return None
    problem = _problem(name, entries, own)
    (entry, *_) = entries
    what = Plugin(group, name, ", ".join(map(_package, entries)), problem)
    if problem:
        raise UsageError(str(what))
    try:
        return entry.load()
    except VoxelVaultError:
        raise
    except (Exception, SystemExit) as error:
        kind = type(error).__name__
    # Not from within: the frames of a stranger's module stay out of the traceback.
    raise PluginFailed(f"{what} can't be loaded ({kind}); reinstall or uninstall that package")


__all__ = [
    "CODECS",
    "INGEST_SOURCES",
    "KEY_PROVIDERS",
    "PIPELINES",
    "Plugin",
    "VERBS",
    "listed",
    "load",
]
