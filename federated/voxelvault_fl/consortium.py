"""Who trains together and on which terms: `consortium.yaml` as a value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from voxelvault_fl.errors import ConsortiumRefused

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


@dataclass(frozen=True)
class Server:
    """Where the gate of the server listens: the only address that a site ever calls."""

    host: str
    port: int = 8443


@dataclass(frozen=True)
class Site:
    """A hospital: a name of small letters, digits and hyphens."""

    name: str


@dataclass(frozen=True)
class Terms:
    """What jobs of this consortium keep to, signed with the roster: lead, server and each site see to it.

    Parameters
    ----------
    purposes, lawful_bases : tuple of str
        What a job may give as its purpose and its lawful basis; empty allows any that is given.
    minimum_sites : int
        A round with fewer answers is not aggregated.
    minimum_cohort : int
        Least number of subjects at a site; no smaller count leaves it.
    maximum_rounds : int
        Most rounds of one job.
    site_metrics : bool
        True where metrics of a single site may be recorded, False for pooled ones only.
    """

    purposes: tuple[str, ...] = ()
    lawful_bases: tuple[str, ...] = ()
    minimum_sites: int = 2
    minimum_cohort: int = 10
    maximum_rounds: int = 100
    site_metrics: bool = True


@dataclass(frozen=True)
class Consortium:
    """A consortium: its id, its lead, where its server is, its sites and its terms."""

    id: str
    name: str
    lead: str
    server: Server
    sites: tuple[Site, ...]
    terms: Terms

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values, the way `consortium_of` reads it."""
        made = asdict(self)
        made["sites"] = [asdict(site) for site in self.sites]
        made["terms"] = {k: list(v) if isinstance(v, tuple) else v for k, v in made["terms"].items()}
        return made


def differences(before: Consortium, after: Consortium) -> list[str]:
    """Return what a changed file changes, a line each."""
    old, new = before.as_dict(), after.as_dict()
    for said in (old, new):
        said |= {f"terms.{name}": value for name, value in said.pop("terms").items()}
        said["sites"] = ", ".join(site["name"] for site in said["sites"])
    return [f"{name}: {new[name]}, before {old[name]}" for name in new if new[name] != old[name]]


def read_consortium(path: Path) -> Consortium:
    """Read `consortium.yaml`.

    Raises
    ------
    ConsortiumRefused
        Not YAML, or it says something that can't be.
    """
    import yaml

    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        raise ConsortiumRefused(
            f"the consortium's file is not YAML{line}; check brackets, quotes and indentation up to there"
        ) from None
    return consortium_of(said)


def consortium_of(said: Any) -> Consortium:
    """Make a consortium of plain values.

    Raises
    ------
    ConsortiumRefused
        A key is missing, unknown or of another type; a name is used twice or not made of small letters,
        digits and hyphens.
    """
    top = _mapping(said, "the consortium", {f.name for f in fields(Consortium)})
    server = _mapping(top.get("server"), "server", {f.name for f in fields(Server)})
    made = Consortium(
        id=require_name(top.get("id"), "id"),
        name=_text(top.get("name"), "name"),
        lead=require_name(top.get("lead", "lead"), "lead"),
        server=Server(
            host=_host(server.get("host")), port=_whole(server.get("port", 8443), "port", 1, 65535)
        ),
        sites=tuple(_site(one) for one in _several(top.get("sites"), "sites")),
        terms=_terms(top.get("terms") or {}),
    )
    _check_names(made)
    return made


def _site(said: Any) -> Site:
    if not isinstance(said, Mapping):
        return Site(require_name(said, "a site"))
    return Site(require_name(_mapping(said, "a site", {"name"}).get("name"), "a site's name"))


def _terms(said: Any) -> Terms:
    given = _mapping(said, "terms", {f.name for f in fields(Terms)})
    default = Terms()
    site_metrics = given.get("site_metrics", default.site_metrics)
    if not isinstance(site_metrics, bool):
        raise ConsortiumRefused("site_metrics is true or false")
    return Terms(
        purposes=tuple(_text(one, "a purpose") for one in _several(given.get("purposes", []), "purposes")),
        lawful_bases=tuple(
            _text(one, "a lawful basis") for one in _several(given.get("lawful_bases", []), "lawful_bases")
        ),
        minimum_sites=_whole(given.get("minimum_sites", default.minimum_sites), "minimum_sites", 1, 1000),
        minimum_cohort=_whole(
            given.get("minimum_cohort", default.minimum_cohort), "minimum_cohort", 1, 10**9
        ),
        maximum_rounds=_whole(
            given.get("maximum_rounds", default.maximum_rounds), "maximum_rounds", 1, 10**6
        ),
        site_metrics=site_metrics,
    )


def _check_names(made: Consortium) -> None:
    names = [site.name for site in made.sites]
    if not names:
        raise ConsortiumRefused("a consortium has sites; list them below `sites:`")
    if len({*names, made.lead, "server"}) != len(names) + 2:
        raise ConsortiumRefused("each site and the lead has a name of its own, and none is called `server`")
    if made.terms.minimum_sites > len(names):
        raise ConsortiumRefused("minimum_sites is more than there are sites")


def _mapping(said: Any, what: str, known: set[str]) -> Mapping[str, Any]:
    if not isinstance(said, Mapping):
        raise ConsortiumRefused(f"{what} is a mapping of keys to values")
    unknown = sorted(str(key) for key in said if key not in known)
    if unknown:
        raise ConsortiumRefused(
            f"{what} has the key {unknown[0][:40]!r}, which means nothing here; "
            f"known are {', '.join(sorted(known))}"
        )
    return said


def _several(said: Any, what: str) -> list[Any]:
    if not isinstance(said, list):
        raise ConsortiumRefused(f"{what} is a list: put it in brackets, [one, another]")
    return said


def _text(said: Any, what: str) -> str:
    _not_read_otherwise(said, what)
    if not isinstance(said, str) or not said.strip() or not said.isprintable():
        raise ConsortiumRefused(f"{what} is a line of text")
    return said.strip()


def _not_read_otherwise(said: Any, what: str) -> None:
    if isinstance(said, bool | int | float):
        raise ConsortiumRefused(
            f"{what} has to stand in quotes: YAML reads yes, no, on, off as true or false, digits as a number"
        )


def require_name(said: Any, what: str) -> str:
    """Return the name of a consortium or a party, which are written alike.

    Raises
    ------
    ConsortiumRefused
        It is none.
    """
    _not_read_otherwise(said, what)
    if not isinstance(said, str) or not _NAME.fullmatch(said):
        raise ConsortiumRefused(f"{what} is made of small letters, digits and hyphens, 40 at most")
    return said


def _host(said: Any) -> str:
    if not isinstance(said, str) or not _HOST.fullmatch(said):
        raise ConsortiumRefused("server.host is a DNS name or an IPv4 address")
    return said


def _whole(said: Any, what: str, least: int, most: int) -> int:
    if isinstance(said, bool) or not isinstance(said, int) or not least <= said <= most:
        raise ConsortiumRefused(f"{what} is a whole number from {least} to {most}")
    return said


__all__ = ["Consortium", "Server", "Site", "Terms", "consortium_of", "read_consortium"]
