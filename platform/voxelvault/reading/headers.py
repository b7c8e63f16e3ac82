"""Where a reader finds headers: the catalog in the vault's own process, the packs in a worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from voxelvault.dicom.read import Header
from voxelvault.errors import NoPixels
from voxelvault.reading.packs import PackSource
from voxelvault.resources import Resources


class HeaderSource(Protocol):
    """Whatever finds the headers of one series."""

    def header(self, instance_id: str) -> Header:
        """Return an instance's header."""

    def know(self, instance_ids: Sequence[str]) -> None:
        """Read headers that will be asked for, together where that is cheaper."""


class CatalogHeaders:
    """Headers of one series from the catalog.

    Parameters
    ----------
    resources : Resources
        The open vault.
    series_id : str
        Opaque id of the series.
    """

    def __init__(self, resources: Resources, series_id: str) -> None:
        self._resources = resources
        self._series_id = series_id
        self._headers: dict[str, Header] = {}

    def know(self, instance_ids: Sequence[str]) -> None:
        """Read the headers that are not at hand yet, in one query."""
        wanted = sorted(set(instance_ids) - self._headers.keys())
        if len(wanted) > 1:
            rows = self._resources.catalog.query(
                "select instance_id, header from instances where series_id = $series"
                " and instance_id in (select unnest($ids))",
                {"series": self._series_id, "ids": wanted},
            ).to_pylist()
            self._headers |= {row["instance_id"]: Header.from_json(row["header"]) for row in rows}

    def header(self, instance_id: str) -> Header:
        """Return an instance's header."""
        found = self._headers.get(instance_id)
        if found is None:
            rows = self._resources.catalog.query(
                "select header from instances where instance_id = $id and series_id = $series",
                {"id": instance_id, "series": self._series_id},
            ).to_pylist()
            if not rows:
                raise NoPixels("the catalog lacks this instance; run `voxelvault verify`")
            found = self._headers[instance_id] = Header.from_json(rows[0]["header"])
        return found


class PackHeaders:
    """Headers out of the stored files: all attributes up to the pixels, as far as packs were lent.

    Parameters
    ----------
    packs : PackSource
        Opens the packs.
    places : mapping of str to str
        Instance id to the id of its pack.
    """

    def __init__(self, packs: PackSource, places: Mapping[str, str]) -> None:
        self._packs = packs
        self._places = places
        self._headers: dict[str, Header] = {}

    def know(self, instance_ids: Sequence[str]) -> None:
        """Do nothing: each is read when it is asked for."""

    def header(self, instance_id: str) -> Header:
        """Return an instance's header."""
        from voxelvault.dicom.part10 import parse

        found = self._headers.get(instance_id)
        if found is None:
            reader = self._packs.reader(self._places[instance_id])
            head = reader.literal_head(reader.manifest.instance(instance_id))
            found = self._headers[instance_id] = Header.from_part10(parse(head))
        return found


__all__ = ["CatalogHeaders", "HeaderSource", "PackHeaders"]
