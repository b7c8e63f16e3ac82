"""What a vault offers for taking files in. Mixed into `Vault`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from voxelvault.crew import Crew
    from voxelvault.intake.ingest import IngestReport
    from voxelvault.intake.quarantine import Quarantined
    from voxelvault.resources import Resources

PathLike = str | os.PathLike[str]


class Droppable(Protocol):
    """Sessions of a user's queries; dropped once the catalog has changed."""

    def drop(self) -> None:
        """Close them."""


class Open(Protocol):
    """What this room needs of a vault."""

    resources: Resources

    @property
    def _sessions(self) -> Droppable: ...

    def _crew(self, client: Any, unsafe_spill: bool) -> AbstractContextManager[Crew | None]: ...


class IntakeFace:
    """Files come in; what can't is kept aside."""

    def ingest(
        self: Open,
        *paths: PathLike | Sequence[PathLike],
        issuer: str | None = None,
        move: bool = False,
        dry_run: bool = False,
        codec: str | None = None,
        progress: bool = True,
        client: Any = None,
        unsafe_spill: bool = False,
    ) -> IngestReport:
        """Take DICOM in: folders, files, zip and tar archives, DICOMDIRs.

        Parameters
        ----------
        *paths : path, or list of paths
            What to take.
        issuer : str, optional
            Issuer of patient ids whose header names none; by default the source's name in the
            configuration.
        move : bool
            Delete each source file once it is safely in the vault.
        dry_run : bool
            Read and report only.
        codec : str, optional
            Instead of the vault's default.
        progress : bool
            Show a progress bar.
        client : optional
            Workers instead of threads: ``"local"``, a scheduler's address (``tls://…``), a Dask
            client, or `voxelvault.cluster.local.LocalWorkers`.
        unsafe_spill : bool
            Also where workers may write what they hold to their disks; entered in the log.

        Returns
        -------
        IngestReport
            What became of every file; print it.
        """
        from voxelvault.display.progress import Progress
        from voxelvault.intake.ingest import IngestOptions, ingest

        options = IngestOptions(issuer, move, dry_run, codec)
        bar = Progress("ingest", shown=None if progress else False)
        with bar, self._crew(client, unsafe_spill) as crew:
            report = ingest(self.resources, paths, options, lambda files, _size: bar.advance(files), crew)
        self._sessions.drop()
        return report

    def quarantine(self: Open) -> list[Quarantined]:
        """List the files kept aside, with reasons; sources may identify people, so this is logged."""
        from voxelvault.intake.quarantine import quarantine_list

        return quarantine_list(self.resources)


__all__ = ["IntakeFace"]
