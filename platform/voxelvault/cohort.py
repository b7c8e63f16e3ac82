"""Selection and Cohort: which series to work with. Each method hands over to a room.

The unit is the series: `len`, iteration and labels count series, splits keep subjects together.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, cached_property
from html import escape
from typing import TYPE_CHECKING, Any, NoReturn

from voxelvault.cohorts import combining, parts
from voxelvault.cohorts.selecting import Chosen, Closable, Parameters
from voxelvault.derived.face import Cacheable
from voxelvault.errors import VaultClosed
from voxelvault.releasing.face import Releasable
from voxelvault.resources import Resources
from voxelvault.training.face import Trainable

if TYPE_CHECKING:
    import dask.array
    import pyarrow as pa
    import xarray

    from voxelvault.catalog.user_sql import Result
    from voxelvault.cohorts.aging import Changed, Erased
    from voxelvault.cohorts.comparing import Difference
    from voxelvault.cohorts.freezing import Frozen
    from voxelvault.cohorts.label_report import LabelReport
    from voxelvault.cohorts.labels import Labels
    from voxelvault.cohorts.split import Split
    from voxelvault.export import ExportReport
    from voxelvault.formats.report import FormatReport
    from voxelvault.series import Series


class Selection(Trainable, Cacheable, Releasable):
    """Series that were asked for; found at the first use, and the same from then on.

    Made by `vault.select`. `a & b`, `a | b` and `a - b` are selections again.

    Attributes
    ----------
    label_report : LabelReport or None
        How the last table of labels fitted.
    """

    def __init__(self, chosen: Chosen, label_report: LabelReport | None = None) -> None:
        self._chosen = chosen
        self.label_report = label_report

    def __reduce__(self) -> NoReturn:
        raise TypeError("a selection cannot be pickled; freeze it, and open the cohort by its name there")

    @property
    def resources(self) -> Resources:
        """The open vault's parts."""
        return self._chosen.resources

    @cached_property
    def series_ids(self) -> tuple[str, ...]:
        """Opaque ids of the series, in order."""
        return tuple(sorted(self._chosen.find()))

    @property
    def labels(self) -> Labels:
        """Labels of the series: `.columns`, and `.of(series_id)`."""
        return self._chosen.labels.only(set(self.series_ids))

    @property
    def cohort_id(self) -> str | None:
        """Opaque id of the cohort that these series are of; None for what was never frozen."""
        return self._chosen.frozen.cohort_id if self._chosen.frozen else None

    @property
    def keep(self) -> Callable[[Closable], None]:
        """Takes what is to be closed with the vault."""
        return self._chosen.keep

    @property
    def part(self) -> str | None:
        """Name of the part of a split that this is."""
        return self._chosen.part

    def readable_ids(self) -> tuple[str, ...]:
        """Return the ids of the series to open.

        Raises
        ------
        UsageError
            They are of a frozen cohort and changed since; see `Cohort.changed`.
        """
        from voxelvault.cohorts.aging import require_unchanged

        if self._chosen.frozen and not self._chosen.allow_changed:
            require_unchanged(self.resources, self._chosen.frozen, self.series_ids)
        return self.series_ids

    def __len__(self) -> int:
        return len(self.series_ids)

    def __iter__(self) -> Iterator[Series]:
        """Yield the series, open for reading as long as any of them is in use: one entry in the log."""
        from voxelvault.cohorts.opening import one_by_one

        return one_by_one(self._chosen, self.readable_ids())

    def __and__(self, other: Selection) -> Selection:
        return Selection(combining.intersection(self._chosen, other._chosen))

    def __or__(self, other: Selection) -> Selection:
        return Selection(combining.union(self._chosen, other._chosen))

    def __sub__(self, other: Selection) -> Selection:
        return Selection(combining.difference(self._chosen, other._chosen))

    def where(self, condition: str, parameters: Parameters = None) -> Selection:
        """Return those that a SQL condition holds for; as for `vault.select`."""
        from voxelvault.cohorts.selecting import by_condition

        more = by_condition(self.resources, self._chosen.ask, condition, parameters)
        return Selection(combining.intersection(self._chosen, more))

    def sample(self, n: int, seed: int = 0) -> Selection:
        """Return n series, the same ones for a seed; what comes in later draws none of them anew."""
        return Selection(combining.sample(self._chosen, n, seed))

    def with_labels(
        self,
        source: Any = None,
        *,
        on: str | None = None,
        columns: Sequence[str] | None = None,
        missing: str = "report",
        reduce: str = "same",
        from_: str | None = None,
    ) -> Selection:
        """Return the same series with labels from a table, or from what the vault holds.

        Parameters
        ----------
        source : pandas, polars or pyarrow table, or path
            One row a key; a path ends in ``.csv``, ``.tsv`` or ``.parquet``.
        on : str, optional
            What the key column holds and is called, in any case: SeriesInstanceUID (default),
            StudyInstanceUID, SOPInstanceUID, AccessionNumber, PatientID, or an opaque `series_id`,
            `study_id`, `subject_id`. Of a `LabelTable` the column may be called otherwise.
        columns : sequence of str, optional
            Label columns; by default all that are no keys, nor called as attributes that identify,
            such as PatientName.
        missing : {"report", "drop", "raise"}
            What becomes of series without a label; `label_report` counts them either way. One label of
            any column is enough, but where `columns` names them a series must have each. ``raise``
            minds rows without a series as well, unless they are of other series of the vault.
        reduce : {"same", "max", "min", "mean"}
            How labels by instance become the series': ``same`` leaves it without one where its
            instances differ.
        from_ : {"SEG", "RTSTRUCT", "SR"}, optional
            Instead of a table: a column `segments` or `regions`, each series' labels as a list; or a
            column for each coded measurement and finding of reports.

        Raises
        ------
        UsageError
            Two rows have one key, no such column, no row fits any series, or `missing="raise"` and
            a series has no label or a row no series.
        AmbiguousUID
            A key means several studies or subjects.
        """
        from voxelvault.cohorts.labelling import label

        chosen, report = label(self._chosen, self.series_ids, source, on, columns, missing, reduce, from_)
        return Selection(chosen, report)

    def df(self) -> Any:
        """Return a pandas data frame: a row a series, columns of series, study, patient, then labels."""
        return self.rows().df()

    def pl(self) -> Any:
        """Return the same as a polars data frame."""
        return self.rows().pl()

    def arrow(self) -> pa.Table:
        """Return the same as a pyarrow table."""
        return self.rows().arrow()

    def rows(self) -> Result:
        """Return the same as a query's result; reading it is entered in the log as identifying."""
        from voxelvault.cohorts.showing import table

        return table(self._chosen, self.series_ids)

    def freeze(self, name: str) -> Cohort:
        """Store members, digests and labels under a name; `vault.cohort(name)` opens it again.

        Where the name has these very members and labels already, that cohort is returned: a notebook
        can be run again.

        Raises
        ------
        UsageError
            The name is taken by other content, or is no name, or nothing is selected.
        """
        from voxelvault.cohorts.freezing import freeze

        return Cohort(self._chosen, freeze(self._chosen, self.readable_ids(), name))

    def split(
        self,
        *,
        seed: int | None = None,
        stratify: str | Sequence[str] | None = None,
        **shares: float,
    ) -> Split[Selection]:
        """Split by subject: train 0.7, val 0.15, test 0.15, or the parts you name with their shares.

        All who may be one person (merged, contradicting, provisional subjects; subjects with a
        study in common) go together, and nobody moves when more people come.

        Parameters
        ----------
        seed : int, optional
            0 by default.
        stratify : str or sequence of str, optional
            Label or catalog columns. Every combination of their values, as each subject's first
            series has it, is dealt out by the shares, to within one subject; an empty sequence deals
            all out as one. Without it a keyed hash of each subject decides alone: a person's part is
            the same in every selection, and parts of few people are uneven.
        **shares : float
            Part to share, together 1, such as ``train=0.8, test=0.2``.

        Returns
        -------
        Split
            ``train, val, test = selection.split()``; `report()` counts, `check()` looks again.

        Raises
        ------
        UsageError
            The shares are none, a part would be empty, or there is no such column.
        """
        from voxelvault.cohorts.split import Split

        how = parts.recipe(shares, seed, stratify)
        return Split(self._chosen, parts.assign(self._chosen, self.series_ids, how), Selection)

    def kfold(
        self, k: int = 5, *, seed: int = 0, stratify: str | Sequence[str] | None = None
    ) -> list[tuple[Selection, Selection]]:
        """Return k pairs (train, val) whose `val` are k parts by subject, dealt out evenly.

        Raises
        ------
        UsageError
            There are fewer subjects than folds.
        """
        found, chosen = parts.folds(self._chosen, self.series_ids, k, seed, stratify), self._chosen
        pairs = [
            (parts.without(chosen, found, name), parts.part(chosen, found, name))
            for name in found.recipe.parts
        ]
        return [(Selection(train), Selection(val)) for train, val in pairs]

    def diff(self, other: Selection) -> Difference:
        """Compare with another: what it adds, lacks, has with other instances or other labels."""
        from voxelvault.cohorts.comparing import difference

        ids, labels = (self.series_ids, other.series_ids), (self.labels, other.labels)
        return difference(self._chosen, other._chosen, ids, labels)

    def provenance(self) -> dict[str, Any]:
        """Return what fixes these series, as JSON for an experiment tracker: no UID, name or value."""
        from voxelvault.cohorts.provenance import provenance

        return provenance(self._chosen, self.series_ids, self._stored_split())

    def to_dask(
        self, stack: int | str | None = None, *, units: str | None = None
    ) -> dict[str, dask.array.Array]:
        """Return a lazy volume for each series that has pixels, by opaque id; open until the vault closes."""
        from voxelvault.cohorts.opening import to_dask

        return to_dask(self._chosen, self.readable_ids(), stack, units)

    def to_xarray(self, stack: int | str | None = None, *, units: str | None = None) -> xarray.DataTree:
        """Return a lazy tree with a node for each series, named by opaque id; open until the vault closes.

        A node's variable is `image`; a series of several volumes has a node ``stack n`` for each.
        """
        from voxelvault.cohorts.opening import to_xarray

        return to_xarray(self._chosen, self.readable_ids(), stack, units)

    def export(
        self,
        out: str | os.PathLike[str],
        *,
        format: str = "dicom",
        resample: bool = False,
        progress: bool = True,
    ) -> ExportReport | FormatReport:
        """Write the series out of the vault, for other tools: see `Vault.export`.

        Parameters
        ----------
        out : path
            Folder; made if need be.
        format : {"dicom", "nifti", "ome-zarr"}
            The original files, or decrypted volumes under opaque names.
        resample : bool
            Volumes: interpolate uneven slices, instead of leaving such series out.
        """
        from voxelvault.formats.exporting import export_as

        return export_as(
            self.resources,
            out,
            format,
            series_ids=self.readable_ids(),
            cohort_id=self.cohort_id,
            resample=resample,
            progress=progress,
        )

    def _stored_split(self) -> parts.Assigned | None:
        return parts.stored(self.resources, self._chosen.frozen) if self._chosen.frozen else None

    def _title(self) -> str:
        return "Selection" if self.part is None else f"Selection {self.part}"

    def _note(self) -> str:
        return "" if self.label_report is None else f"; labels: {self.label_report}"

    def __repr__(self) -> str:
        from voxelvault.cohorts.showing import line

        try:
            return f"<{self._title()}: {line(self.resources, self.series_ids)}{self._note()}>"
        except VaultClosed:
            return f"<{self._title()}: closed vault>"

    def _repr_html_(self) -> str:
        from voxelvault.cohorts.showing import line, pictures

        try:
            note = line(self.resources, self.series_ids) + self._note()
            return pictures(self._chosen, self.series_ids, self._parts(), self._title(), note)
        except VaultClosed:
            return escape(repr(self))

    def _parts(self) -> Mapping[str, str]:
        return {}


class Cohort(Selection):
    """A frozen selection: its members, digests, labels and split are rows of the catalog.

    Made by `Selection.freeze`, opened by `vault.cohort`. Freezing a cohort again, under another name,
    takes its series as they are now.
    """

    def __init__(self, chosen: Chosen, frozen: Frozen, *, allow_changed: bool = False) -> None:
        from voxelvault.cohorts.freezing import labels_of, series_of

        mine = replace(
            chosen,
            text=f"cohort {frozen.cohort_id}",
            find=cache(lambda: series_of(chosen.resources, frozen)),
            labels=labels_of(chosen.resources, frozen),
            frozen=frozen,
            part=None,
            salt="",
            allow_changed=allow_changed,
        )
        super().__init__(mine)
        self.frozen = frozen

    @property
    def name(self) -> str:
        """What it was frozen as."""
        return self.frozen.name

    @property
    def erased(self) -> Erased:
        """What an erasure took since: members and subjects."""
        from voxelvault.cohorts.aging import erased

        return erased(self.resources, self.frozen)

    @property
    def changed(self) -> Changed:
        """Series that are no longer what was frozen: sent again, or grown."""
        from voxelvault.cohorts.aging import changed

        return changed(self.resources, self.frozen)

    def freeze(self, name: str) -> Cohort:
        """Freeze the series of this cohort as they are now, under another name where they changed."""
        from voxelvault.cohorts.freezing import freeze

        return Cohort(self._chosen, freeze(self._chosen, self.series_ids, name))

    def split(  # type: ignore[override]  # a part named `resplit` is no part
        self,
        *,
        seed: int | None = None,
        stratify: str | Sequence[str] | None = None,
        resplit: bool = False,
        **shares: float,
    ) -> Split[Selection]:
        """Split the cohort, once: the split is stored, and given again from then on.

        Parameters
        ----------
        seed, stratify, **shares
            As for `Selection.split`; none of them: the split that is stored, or the defaults.
        resplit : bool
            Replace the stored split.

        Raises
        ------
        UsageError
            It is split already in another way; or as for `Selection.split`.
        SplitViolation
            Subjects of two parts were merged since, or may be one person.
        """
        from voxelvault.cohorts.split import Split

        given = bool(shares) or seed is not None or stratify is not None
        how = parts.recipe(shares, seed, stratify) if given else None
        found = parts.split_once(self._chosen, self.frozen, self.series_ids, how, resplit)
        return Split(self._chosen, found, Selection)

    def _parts(self) -> Mapping[str, str]:
        return parts.standing(self.resources, self.frozen)[0]

    def _title(self) -> str:
        return f"Cohort {self.name}"

    def _note(self) -> str:
        erased, changed = self.erased, self.changed
        told = f"; {erased.members} instances of {erased.subjects} subjects were erased" if erased else ""
        wrong = parts.standing(self.resources, self.frozen)[1]
        return told + (f"; {changed}" if changed else "") + (f"; {wrong}" if wrong else "")
