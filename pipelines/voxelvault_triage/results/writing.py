"""A result is written: segmentation, report and key image, from memory into the source study, at once.

The same analysis of the same content has the same UIDs, so that a run which was killed after the
commit, and runs again, finds its result there. A newer result says which reports it replaces.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from pydicom.dataset import Dataset

from voxelvault import Vault
from voxelvault.errors import GeometryError, MissingExtra, NoPixels, UnknownUID, UsageError
from voxelvault.intake.memory import Parcel, store_each
from voxelvault.reading.packs import issuers_of_studies
from voxelvault.series import Series
from voxelvault_triage.model import Analysis, Finding
from voxelvault_triage.notice import notice
from voxelvault_triage.results.reading import Recorded, reports
from voxelvault_triage.results.source import Source, file_of, named_only, source_of
from voxelvault_triage.results.uids import ResultUIDs
from voxelvault_triage.results.vocabulary import Vocabulary, vocabulary_of

UNPLACED = "The mask has no place in the patient that a segmentation could name: see the key image."


@dataclass(frozen=True, slots=True)
class Written:
    """What was written for one analysis, as opaque instance ids.

    Parameters
    ----------
    report : str
        The structured report.
    segmentations : tuple of str
        The mask; none where it is empty.
    key_image : str or None
        None where nothing is flagged.
    new : bool
        False where it was there before.
    """

    report: str
    segmentations: tuple[str, ...] = ()
    key_image: str | None = None
    new: bool = True

    @property
    def instance_ids(self) -> tuple[str, ...]:
        """All of them."""
        return (self.report, *self.segmentations, *([self.key_image] if self.key_image else []))


@dataclass(frozen=True, slots=True)
class Made:
    """The objects of a first result of a study, as files: made wherever the series is open, also in a worker.

    Parameters
    ----------
    files : tuple of bytes
        DICOM Part 10.
    kinds : tuple of str
        Modality of each; the report's comes first.
    """

    files: tuple[bytes, ...] = field(repr=False)
    kinds: tuple[str, ...] = ()


def make_results(
    series: Series, analysis: Analysis, *, demonstration: bool = True, vocabulary: Vocabulary | None = None
) -> Made:
    """Make the objects of an analysis, for a study in which there is no result yet; nothing is written.

    Parameters are those of `write_results`, which takes what this returns.
    """
    _check(analysis.finding)
    return _made(series, analysis, ResultUIDs.of(analysis), vocabulary, demonstration, ())


def write_results(
    vault: Vault,
    series: Series | None,
    analysis: Analysis,
    supersedes: Sequence[str] | None = None,
    *,
    demonstration: bool = True,
    vocabulary: Vocabulary | None = None,
    made: Made | None = None,
) -> Written:
    """Write the result of an analysis into its study.

    Parameters
    ----------
    vault : Vault
        Open for writing.
    series : Series or None
        What was analysed; None where nothing fitted: then an image of the study stands for it.
    analysis : Analysis
        What was found.
    supersedes : sequence of str, optional
        Opaque ids of the reports that it replaces; by default this pipeline's on the study that no
        other replaces yet.
    demonstration : bool
        A demonstration model made it: every object says so.
    vocabulary : Vocabulary, optional
        How it is coded; by default the pipeline's.
    made : Made, optional
        As `make_results` made it elsewhere; made anew where there is a result already.

    Returns
    -------
    Written
        Opaque ids. The same analysis is not written twice.

    Raises
    ------
    UsageError
        The mask is not on the series' grid, a number is none that a score or volume can have, the
        series is another study's, or a report to replace is not there.
    PolicyDenied, AuditError, StorageError, CatalogError
        Nothing was written.
    """
    _check(analysis.finding)
    # Nothing of a patient is read, and logged, where there is nothing yet.
    known = reports(vault, analysis.study.study_id) if with_results(vault, [analysis.study.study_id]) else []
    uids, there = _place(ResultUIDs.of(analysis), known)
    if there is not None:
        return _found(vault, there, uids)
    previous = _replaced(known, analysis.pipeline, supersedes)
    if made is None or known:
        with _at_hand(vault, series, analysis.study.study_id) as opened:
            made = _made(opened, analysis, uids, vocabulary, demonstration, previous)
    stored = vault.store(list(made.files), analysis.study.study_id, origin=analysis.pipeline)
    return _written(made.kinds, stored.instance_ids, new=True)


def with_results(vault: Vault, study_ids: Sequence[str]) -> set[str]:
    """Return those of some studies into which pipelines wrote something, by opaque id."""
    found = vault.resources.catalog.query(
        "select distinct study_id from instances where study_id in (select unnest($ids))"
        " and origin is not null",
        {"ids": list(study_ids)},
    )
    return set(found["study_id"].to_pylist())


def write_first(vault: Vault, made: Mapping[str, Made], pipeline: str) -> None:
    """Write the first results of several studies, in one commit or none.

    Parameters
    ----------
    vault : Vault
        Open for writing.
    made : mapping of str to Made
        By the study's opaque id; into none of them was anything written yet.
    pipeline : str
        Made them.

    Raises
    ------
    VoxelVaultError
        As `write_results`; nothing was written.
    """
    resources = vault.resources
    issuers = issuers_of_studies(resources, list(made))
    parcels = [Parcel(one.files, study_id, issuers[study_id]) for study_id, one in made.items()]
    store_each(resources, parcels, pipeline)


def _at_hand(vault: Vault, series: Series | None, study_id: str) -> AbstractContextManager[Series]:
    """Return the series to name, left open where it is the caller's."""
    return _opened(vault, study_id) if series is None else nullcontext(series)


def _made(
    series: Series,
    analysis: Analysis,
    uids: ResultUIDs,
    vocabulary: Vocabulary | None,
    demonstration: bool,
    previous: Sequence[Dataset],
) -> Made:
    words = vocabulary or vocabulary_of(analysis.pipeline)
    objects = _objects(series, analysis, uids, words, notice(demonstration), previous)
    return Made(tuple(file_of(one) for one in objects), tuple(str(one.Modality) for one in objects))


def _place(uids: ResultUIDs, known: Sequence[Recorded]) -> tuple[ResultUIDs, Recorded | None]:
    """Return the UIDs to write under, and what stands there already.

    A study can get back a content that it had before: then what was found in it is replaced by now,
    and is written again.
    """
    by_uid, time = {one.SOPInstanceUID: one for one in known}, 1
    there = by_uid.get(uids.instance("SR"))
    while there is not None and there.superseded:
        time += 1
        uids = uids.again(time)
        there = by_uid.get(uids.instance("SR"))
    return uids, there


def _objects(
    series: Series,
    analysis: Analysis,
    uids: ResultUIDs,
    words: Vocabulary,
    notice: str,
    previous: Sequence[Dataset],
) -> list[Dataset]:
    # highdicom takes a second to import: who only reads results does without.
    try:
        from voxelvault_triage.results.key_image import key_image
        from voxelvault_triage.results.report import report
        from voxelvault_triage.results.segmentation import segmentations
    except ImportError as error:
        raise MissingExtra("results need highdicom: pip install 'voxelvault[triage]'") from error

    source, comments = _source(series, analysis), [notice]
    if not all(text.isascii() for text in _own_texts(analysis, words)):
        source.identity.SpecificCharacterSet = "ISO_IR 192"
    masks: list[Dataset] = []
    try:
        masks = segmentations(analysis, source, uids, words, notice)
    except GeometryError:
        # A finding isn't lost for want of geometry.
        comments.append(UNPLACED)
    made = [report(analysis, source, masks, uids, words, comments, previous), *masks]
    shown = key_image(analysis, series, source, uids, words, notice)
    return [*made, shown] if shown is not None else made


def _check(finding: Finding | None) -> None:
    """Refuse numbers that a model answers when it is broken."""
    if finding is None:
        return
    shares = (finding.score, finding.threshold, finding.uncertainty, *finding.types.values())
    if not (all(0 <= share <= 1 for share in shares) and 0 <= finding.volume_ml < math.inf):
        raise UsageError("a score, threshold or volume is no number from 0 on, or a score is above 1")


def _own_texts(analysis: Analysis, words: Vocabulary) -> list[str]:
    """Return what a pipeline itself says in its objects."""
    types = analysis.finding.types if analysis.finding else ()
    reasons = [text for reason in analysis.gated.reasons for text in (reason.code, reason.sentence)]
    return [analysis.pipeline, analysis.version, words.label, *types, *reasons]


def _source(series: Series, analysis: Analysis) -> Source:
    if analysis.finding is not None:
        return source_of(series, analysis.gated.stack)
    try:
        return source_of(series, analysis.gated.stack) if analysis.gated.fit else named_only(series)
    except NoPixels:
        return named_only(series)


def _opened(vault: Vault, study_id: str) -> Series:
    """Open the series of the study that has the most instances; those that were made here are left out."""
    rows = vault.sql(
        "select s.SeriesInstanceUID, s.StudyInstanceUID, s.subject_id from series s join instances i"
        " using (series_id) where s.study_id = $study and i.origin is null and not i.superseded"
        " group by all order by count(*) desc, 1 limit 1",
        {"study": study_id},
    ).fetchall()
    if not rows:
        raise UnknownUID("the study has no instance that a result could name; ingest it again")
    uid, study, subject = rows[0]
    return vault.series(uid, study=study, subject=subject)


def _replaced(known: Sequence[Recorded], pipeline: str, wanted: Sequence[str] | None) -> list[Dataset]:
    if wanted is None:
        return [one.reference() for one in known if one.pipeline == pipeline and not one.superseded]
    by_id = {one.instance_id: one for one in known}
    if not set(wanted) <= set(by_id):
        raise UnknownUID("a report to be replaced is not in this study; `read_results` lists those there are")
    return [by_id[one].reference() for one in wanted]


def _found(vault: Vault, there: Recorded, uids: ResultUIDs) -> Written:
    """Return what was written before."""
    rows = vault.sql(
        "select SOPInstanceUID, instance_id from instances where study_id = $study and origin = $origin"
        " and not superseded",
        {"study": uids.key[0], "origin": there.pipeline},
    ).fetchall()
    ids: dict[str, str] = dict(rows)
    masks = tuple(ids[uid] for uid in there.segmentations if uid in ids)
    return Written(there.instance_id, masks, ids.get(uids.instance("SC")), new=False)


def _written(kinds: Sequence[str], ids: Sequence[str], *, new: bool) -> Written:
    by_kind = list(zip(kinds, ids, strict=True))
    masks = tuple(instance_id for kind, instance_id in by_kind if kind == "SEG")
    shown = next((instance_id for kind, instance_id in by_kind if kind == "OT"), None)
    return Written(ids[0], masks, shown, new)


__all__ = ["Made", "Written", "make_results", "with_results", "write_first", "write_results"]
