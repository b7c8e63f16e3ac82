"""Vault: the face a notebook meets. Each method hands over to a verb."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from voxelvault.intake.face import IntakeFace

if TYPE_CHECKING:
    from voxelvault.access import VaultOptions
    from voxelvault.audit.view import AuditView
    from voxelvault.catalog.user_sql import Result
    from voxelvault.cohort import Cohort, Selection
    from voxelvault.cohorts.selecting import Closable
    from voxelvault.crew import Crew
    from voxelvault.derived.cache import Cache
    from voxelvault.derived.listing import CacheInfo, EvictReport
    from voxelvault.documents import Documents
    from voxelvault.export import ExportReport
    from voxelvault.formats.report import FormatReport
    from voxelvault.intake.memory import Stored
    from voxelvault.reading.served_face import Instance
    from voxelvault.resources import Resources
    from voxelvault.series import Series
    from voxelvault.upkeep.compaction import CompactReport
    from voxelvault.upkeep.verify import VerifyReport

PathLike = str | os.PathLike[str]


class Vault(IntakeFace, AbstractContextManager["Vault"]):
    """An open vault. Made by `create` and `open`.

    Attributes
    ----------
    recovery_code : str or None
        Only on a vault just made.
    warnings : tuple of str
        What `create` would have you know.
    """

    def __init__(self, resources: Resources, path: Path | str) -> None:
        from voxelvault.access import Sessions

        self.resources = resources
        self.path = path
        self.recovery_code: str | None = None
        self.warnings: tuple[str, ...] = ()
        self._open: list[Closable] = []
        self._sessions = Sessions()

    def __reduce__(self) -> NoReturn:
        raise TypeError("an open vault cannot be pickled; open it again where you need it")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every series and what else is open, and the vault."""
        from voxelvault.opening import close_vault

        for one in self._open:
            one.close()
        self._open.clear()
        self._sessions.drop()
        close_vault(self.resources)

    @property
    def options(self) -> VaultOptions:
        """What this session may change: `identifying`, `verify_reads`, `threads`."""
        from voxelvault.access import VaultOptions

        return VaultOptions(self.resources)

    @property
    def audit(self) -> AuditView:
        """The audit log: `log`, `verify`, `prove`, `checkpoint`."""
        from voxelvault.audit.view import AuditView

        resources = self.resources
        return AuditView(resources.log, resources.audit, resources.who, resources.purpose)

    def store(self, files: Sequence[bytes], study_id: str, *, origin: str) -> Stored:
        """Take instances that a pipeline made of a study in from memory, all or none of them.

        Parameters
        ----------
        files : sequence of bytes
            DICOM Part 10 files, 256 MiB together at most.
        study_id : str
            Opaque id of the study that their headers name.
        origin : str
            The pipeline's name; it stands in the column `origin` of `instances`, which is empty for
            what was sent in.

        Returns
        -------
        Stored
            Opaque ids, and how many are new.

        Raises
        ------
        MalformedDicom, IntegrityError, UsageError, PolicyDenied, AuditError, StorageError
            Nothing was stored; there is no quarantine for what is made here.
        """
        from voxelvault.intake.memory import store
        from voxelvault.reading.packs import issuers_of_studies

        issuer = issuers_of_studies(self.resources, [study_id])[study_id]
        stored = store(self.resources, files, study_id, origin, issuer)
        self._sessions.drop()
        return stored

    def sql(self, query: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> Result:
        """Query the catalog: tables patients, studies, series, instances, stacks, frames, audit, ….

        Returns
        -------
        Result
            `.df()` (pandas), `.pl()` (polars), `.arrow()`, `.fetchall()`.

        Raises
        ------
        QueryError
            The SQL was refused or failed.
        AuditError
            The query could not be entered in the log, so it was not run.
        """
        from voxelvault.access import identifies, log_query, mentions_audit

        log_query(self.resources, query)
        shown = self.options.identifying or not identifies(query)
        if mentions_audit(query):
            extra = {"audit": self.audit.table()}
            with self.resources.catalog.user_session(extra=extra) as session:
                return session.sql(query, parameters, identifying=shown)
        return self._sessions.fresh(self.resources).sql(query, parameters, identifying=shown)

    def select(
        self,
        where: Any = None,
        *,
        uids: Any = None,
        parameters: Sequence[Any] | Mapping[str, Any] | None = None,
    ) -> Selection:
        """Select series, lazily: by a SQL condition, a list of UIDs, or a data frame of them.

        Parameters
        ----------
        where : str, sequence of str, or data frame, optional
            A condition over the columns of `series`, `studies` and `patients`, such as
            ``"Modality = 'CT' and SliceThickness < 2"``; `frame_count` and `instance_count` are
            there too. Without it, every series. A sequence or data frame is taken as `uids`.
        uids : sequence of str, or pandas, polars or pyarrow table, optional
            Study, Series or SOP Instance UIDs, or opaque ids.
        parameters : sequence or mapping, optional
            Values for `?` or `$name` in the condition.

        Raises
        ------
        QueryError
            The SQL was refused or failed; at the selection's first use.
        UnknownUID, AmbiguousUID
            Some of the UIDs mean no series, or several people's.
        """
        from voxelvault.cohort import Selection
        from voxelvault.cohorts.asking import select

        return Selection(select(self.resources, self._ask, where, uids, parameters, self._open.append))

    def cohort(self, name: str, *, allow_changed: bool = False) -> Cohort:
        """Open a frozen cohort by its name.

        Parameters
        ----------
        name : str
            As given to `freeze`.
        allow_changed : bool
            Read series that grew or were sent again as they are now, instead of refusing to; see
            `cohort.changed`.

        Raises
        ------
        UsageError
            There is no such cohort.
        IntegrityError
            Its members are not those that were frozen.
        """
        from voxelvault.cohort import Cohort
        from voxelvault.cohorts.freezing import find

        return Cohort(self.select()._chosen, find(self.resources, name), allow_changed=allow_changed)

    def cohorts(self) -> Result:
        """List the frozen cohorts: name, when, members and subjects then, what is left, whether split."""
        from voxelvault.cohorts.freezing import listed

        return listed(self.resources)

    def series(self, uid: str, *, study: str | None = None, subject: str | None = None) -> Series:
        """Open a series by its UID: one policy decision and one audit entry cover every read.

        Parameters
        ----------
        uid : str
            SeriesInstanceUID.
        study, subject : str, optional
            StudyInstanceUID, and opaque id of the subject, where several have a series of that UID.

        Raises
        ------
        UnknownUID, AmbiguousUID, PolicyDenied, AuditError
            Then nothing was read.
        """
        from voxelvault.series import open_series

        found = open_series(self.resources, uid, study, subject)
        self._open.append(found)
        return found

    def instance(self, uid: str) -> Instance:
        """Open one instance by its SOPInstanceUID: its header, and itself or its frames as DICOM files.

        Raises
        ------
        UnknownUID, AmbiguousUID, PolicyDenied, AuditError
            Then nothing was read.
        """
        from voxelvault.series import open_instance

        found = open_instance(self.resources, uid)
        self._open.append(found)
        return found

    def export(
        self,
        out: PathLike,
        *,
        study: str | None = None,
        series: str | None = None,
        format: str = "dicom",
        resample: bool = False,
        progress: bool = True,
        client: Any = None,
        unsafe_spill: bool = False,
    ) -> ExportReport | FormatReport:
        """Write the original files, byte for byte, with a manifest of their hashes; or volumes.

        Volumes are decrypted copies, named by opaque ids; a warning says that they leave the vault.

        Parameters
        ----------
        out : path
            Folder; made if need be. What lies there is never overwritten.
        study, series : str, optional
            UIDs; without them everything goes out.
        format : {"dicom", "nifti", "ome-zarr"}
            The files as they came; or a `.nii.gz` with a JSON sidecar, or an OME-Zarr, for each volume.
        resample : bool
            Volumes: interpolate uneven slices onto an even grid, instead of leaving such series out.
        client, unsafe_spill : optional
            Workers that write original files into a folder that is theirs, too; as for `ingest`.
        """
        from voxelvault.formats.exporting import export_as

        chosen: Any = {"study": study, "series": series, "resample": resample, "progress": progress}
        with self._crew(client, unsafe_spill) as crew:
            return export_as(self.resources, out, format, **chosen, crew=crew)

    def verify(
        self,
        *,
        quick: bool = False,
        sample: float | None = None,
        repair: bool = False,
        against: str | None = None,
        progress: bool = True,
        client: Any = None,
        unsafe_spill: bool = False,
    ) -> VerifyReport:
        """Check every object, every frame, every catalog reference, and the log.

        Parameters
        ----------
        quick : bool
            Lengths, manifests, references and log, without reading pixels.
        sample : float, optional
            Share of the packs to read, 0 to 1.
        repair : bool
            Sweep what a killed run left behind, and drop damaged copies.
        against : str, optional
            A checkpoint kept elsewhere.
        client, unsafe_spill : optional
            Workers; as for `ingest`.
        """
        from voxelvault.display.progress import Progress
        from voxelvault.upkeep.verify import VerifyOptions, verify

        bar = Progress("verify", unit="pack", shown=None if progress else False)
        with bar, self._crew(client, unsafe_spill) as crew:
            return verify(self.resources, VerifyOptions(quick, sample, repair, against), bar.advance, crew)

    def compact(
        self, *, dry_run: bool = False, progress: bool = True, client: Any = None, unsafe_spill: bool = False
    ) -> CompactReport:
        """Join the many small packs of series that arrived image by image.

        Who has a series open keeps reading what there was; a later `verify(repair=True)` sweeps that.

        Parameters
        ----------
        dry_run : bool
            Only count.
        client, unsafe_spill : optional
            Workers that read and write; as for `ingest`.
        """
        from voxelvault.display.progress import Progress
        from voxelvault.upkeep.compaction import compact

        bar = Progress("compact", unit="pack", shown=None if progress else False)
        with bar, self._crew(None if dry_run else client, unsafe_spill) as crew:
            report = compact(self.resources, dry_run=dry_run, advance=bar.advance, crew=crew)
        self._sessions.drop()
        return report

    def reindex(self, tags: PathLike | None = None, *, client: Any = None, unsafe_spill: bool = False) -> int:
        """Extract typed columns anew from every stored header; return the number of instances.

        Parameters
        ----------
        tags : path, optional
            A site's tag list (TOML, as `dicom/tags.toml`): it becomes the vault's. Open series close.
        client, unsafe_spill : optional
            Workers that read the headers; as for `ingest`.
        """
        from voxelvault.intake.reindex import reindex
        from voxelvault.opening import adopt_tags

        self._sessions.drop()
        if tags is not None:
            self.resources = adopt_tags(self.resources, Path(tags).expanduser())
            for one in self._open:
                one.close()
            self._open.clear()
        with self._crew(client, unsafe_spill) as crew:
            return reindex(self.resources, crew)

    def merge_subjects(self, subject_id: str, into: str, *, reason: str | None = None) -> None:
        """Say that two subjects are one person; see the table `conflicts`."""
        from voxelvault.upkeep.lifecycle import merge_subjects

        merge_subjects(self.resources, subject_id, into, reason=reason)
        self._sessions.drop()

    def caches(self) -> list[CacheInfo]:
        """List what `cohort.cache` made, the last used first: size, series, how many are stale."""
        from voxelvault.derived.listing import caches

        return caches(self.resources)

    def evict(
        self,
        cache: str | CacheInfo | Cache | None = None,
        *,
        stale: bool = False,
        limit_bytes: int | None = None,
        everything: bool = False,
        dry_run: bool = False,
    ) -> EvictReport:
        """Remove cached copies; building them again brings them back.

        Parameters
        ----------
        cache : str, CacheInfo or Cache, optional
            One of `caches()`, or its first digits; or what `cache(...)` of a selection returned.
        stale : bool
            Only what was made of other instances than there are now.
        limit_bytes : int, optional
            The longest unused, until so many bytes are left.
        everything : bool
            All there are.
        dry_run : bool
            Only say what would go.
        """
        from voxelvault.derived.listing import evict

        chosen: Any = {"stale": stale, "limit_bytes": limit_bytes, "everything": everything}
        return evict(self.resources, cache, **chosen, dry_run=dry_run)

    def documents(self, area: str) -> Documents:
        """Open an area of sealed documents that a pipeline keeps: models, settings; nothing of a patient."""
        from voxelvault.documents import Documents

        return Documents(self.resources, area)

    def summary(self) -> dict[str, object]:
        """Return counts by modality and transfer syntax, and sizes; nothing that names anybody."""
        from voxelvault.access import summary

        return summary(self.resources)

    def __repr__(self) -> str:
        if self.resources.keys.closed:
            return "<Vault: closed>"
        counts = self.summary()
        return "<Vault: {studies} studies, {series} series, {instances} instances>".format(**counts)

    def _repr_html_(self) -> str:
        from voxelvault.display.html import card

        return card("Vault", {"closed": "yes"} if self.resources.keys.closed else self.summary())

    def _crew(self, client: Any, unsafe_spill: bool) -> AbstractContextManager[Crew | None]:
        from voxelvault.cluster.entering import crew_of

        return crew_of(self.resources, client, unsafe_spill=unsafe_spill)

    def _ask(self, query: str, parameters: Any = None) -> Result:
        return self._sessions.fresh(self.resources).sql(query, parameters)


__all__ = ["Vault"]
