"""One study de-identified: its faces found first, then file after file; what can't be cleaned is told.

A pure function of the files and the settings, so that any process may do it.
"""

from __future__ import annotations

import gc
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from threading import local

from pydicom.dataset import Dataset

from voxelvault.deid.faces.finding import FaceFinder, Faces, may_show, reference_of
from voxelvault.deid.instance import Result, deidentify
from voxelvault.deid.leak_check import Searcher
from voxelvault.deid.model import Context, Option, Person, Pseudonyms, Refused
from voxelvault.deid.needles import Needles, collect, searched
from voxelvault.deid.person import collect as collect_person
from voxelvault.deid.pixels import PixelCleaner
from voxelvault.deid.profile import Profile
from voxelvault.deid.pseudonym import ProjectPseudonyms
from voxelvault.deid.source import Source, read_source
from voxelvault.deid.text import TextCleaner
from voxelvault.dicom.part10 import parse
from voxelvault.dicom.read import Header
from voxelvault.errors import DicomError, UsageError
from voxelvault.releasing.originals import Original, Originals, Subject

KEPT_BYTES, KEPT_FILES = 16 << 20, 256
"""Of one patient's files that are read once only: more would fill the memory."""

_OBJECTS = 20_000
"""New objects after which those in cycles are looked for: about as many as a large header has."""

CHOICES = ("deface", "refuse", "keep")


@dataclass(frozen=True, slots=True)
class Settings:
    """How a release is made; pickles, and shows no key.

    Parameters
    ----------
    profile : Profile
        The rules.
    pseudonyms : ProjectPseudonyms
        With the project's key.
    faces : {"deface", "refuse", "keep"} or None
        What to do where a face can be made out; None asks.
    others : set of str
        From `Originals.like_designations`.
    """

    profile: Profile
    pseudonyms: ProjectPseudonyms = field(repr=False)
    faces: str | None = None
    others: Set[str] = field(default=frozenset(), repr=False)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file: a result, or the reason why there is none."""

    original: Original
    source: str
    """Keyed digest of the file as it came."""
    result: Result | None = None
    reason: str = ""
    patient_id: str = field(default="", repr=False)
    """As it came; for the ledger."""
    uids: Mapping[str, str] = field(default_factory=dict, repr=False)
    """New UID by old; for the ledger."""


class Opened:
    """Files that were read for their values and are soon to be rewritten, as far as they fit."""

    def __init__(self) -> None:
        self._kept: dict[str, Source] = {}
        self._room = KEPT_BYTES

    def keep(self, original: Original, source: Source) -> None:
        """Keep a file, if there is room."""
        if len(source.data) <= self._room and len(self._kept) < KEPT_FILES:
            self._kept[original.place] = source
            self._room -= len(source.data)

    def clear(self) -> None:
        """Keep nothing more."""
        self._kept.clear()

    def read(self, original: Original) -> bytes:
        """Return a file's bytes."""
        kept = self._kept.get(original.place)
        return original.read() if kept is None else kept.data

    def source(self, original: Original) -> Source:
        """Return a file; it stays.

        Raises
        ------
        Refused
            It can't be read to its end.
        """
        return self._kept.get(original.place) or read_source(original.read())

    def take(self, original: Original, data: bytes) -> Source:
        """Return a file to be used up, and make room.

        Raises
        ------
        Refused
            It can't be read to its end.
        """
        kept = self._kept.pop(original.place, None)
        if kept is None:
            return read_source(data)
        self._room += len(data)
        return kept


@dataclass(frozen=True, slots=True)
class Whose:
    """All that is known of one patient: to be cleaned away, and to be searched for.

    Parameters
    ----------
    context, searcher : Context, Searcher
        The rules and the patient's values.
    opened : Opened
        Files that were read already.
    frames : sequence of set of str
        The frames of reference of each study, in the order of `Subject.studies`.
    """

    context: Context
    searcher: Searcher
    opened: Opened = field(default_factory=Opened, repr=False)
    frames: Sequence[Set[str]] = field(default=(), repr=False)

    def beside(self, subject: Subject, number: int) -> Sequence[Original]:
        """Return the files of the other studies that lie in a frame of reference of this one.

        A face is one in all of them: what a study alone has too little of to tell is masked as there.
        """
        others = (other for other, theirs in enumerate(self.frames) if theirs & self.frames[number])
        return [original for other in others if other != number for original in subject.studies[other]]


def whose(subject: Subject, settings: Settings) -> Whose:
    """Read every header of a patient once, and return what must not come out.

    Parameters
    ----------
    subject : Subject
        All of the patient's files in this run: a name in one study is searched for in the others.
    settings : Settings
        How the release is made.
    """
    needles, opened = Needles(), Opened()
    frames: list[set[str]] = [set() for _ in subject.studies]

    def headers() -> Iterator[Dataset]:
        nonlocal needles
        for number, original in (
            (number, one) for number, study in enumerate(subject.studies) for one in study
        ):
            try:
                source = read_source(original.read())
            except Refused:
                continue  # and again when its turn comes
            needles |= collect(source.part10)
            yield source.dataset
            frames[number] |= _frames_of(source.dataset)
            opened.keep(original, source)

    with quiet():
        person = collect_person(headers(), subject.subject)
    days = settings.pseudonyms.days(person.subject)
    wanted = searched(needles, settings.profile.options, days)
    return Whose(context_of(person, settings), Searcher(wanted), opened, frames)


def _frames_of(dataset: Dataset) -> set[str]:
    """Return the frames of reference that an object lies in, or outlines something in."""
    named = [dataset, *dataset.get("ReferencedFrameOfReferenceSequence", ())]
    return {str(uid) for one in named if (uid := one.get("FrameOfReferenceUID"))}


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Let cycles lie a little longer: headers are thousands of small objects that hardly have any.

    A tenth of a release's time went into looking through them.
    """
    before = gc.get_threshold()
    gc.set_threshold(max(before[0], _OBJECTS) if before[0] else 0, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


class _Quiet(local):
    """Whether a thread is quiet already: to become so costs as much as reading a header."""

    yet = False


_QUIET = _Quiet()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep still what pydicom warns of, in its log too: it quotes values."""
    if _QUIET.yet:
        yield
        return
    log = logging.getLogger("pydicom")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    _QUIET.yet = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        _QUIET.yet = False
        log.setLevel(level)


def context_of(person: Person, settings: Settings) -> Context:
    """Return all that rewriting depends on, for one patient."""
    profile, pseudonyms = settings.profile, settings.pseudonyms
    moved = Option.RETAIN_MODIFIED_DATES in profile.options
    cleaner = TextCleaner(
        person,
        uid=(lambda uid: uid) if Option.RETAIN_UIDS in profile.options else pseudonyms.uid,
        days=pseudonyms.days(person.subject) if moved else None,
        keep_dates=Option.RETAIN_FULL_DATES in profile.options,
        others=settings.others,
    )
    return Context(profile, pseudonyms, person, cleaner)


def release(
    study: Sequence[Original],
    known: Whose,
    settings: Settings,
    pixels: PixelCleaner,
    beside: Sequence[Original] = (),
) -> Iterator[Outcome]:
    """De-identify the files of one study.

    Parameters
    ----------
    study : sequence of Original
        Its files.
    known : Whose
        From `whose`.
    settings : Settings
        How the release is made.
    pixels : PixelCleaner
        Looks for text in pictures.
    beside : sequence of Original
        From `Whose.beside`: where else the patient's face may show.

    Raises
    ------
    UsageError
        A face can be made out, and nobody said what to do about faces.
    """
    opened = known.opened
    with quiet():
        faces = _faces(study, opened, settings, pixels, beside)
    for original in study:
        data = opened.read(original)
        digest = settings.pseudonyms.digest(data)
        recorder = _Recorder(known.context.pseudonyms)
        context = replace(known.context, pseudonyms=recorder)
        try:
            with quiet():
                source = opened.take(original, data)
                if faces.masks and settings.faces == "refuse":
                    _refuse_face(source, faces)
                result = deidentify(source, context, known.searcher, pixels, faces)
        except Refused as refused:
            yield Outcome(original, digest, reason=refused.reason)
        else:
            yield Outcome(original, digest, result, "", result.patient_id, recorder.uids)


def ask_first(
    originals: Originals, settings: Settings, pixels: PixelCleaner, stop: Callable[[], bool]
) -> None:
    """Look for faces in all studies, before the first is released; parameters as `release` takes them.

    Headers tell where looking is worth it. It is for a key that is gone when the run ends: what such a
    run had released before it asked could not go on.

    Raises
    ------
    UsageError
        A face can be made out, and nobody said what to do about faces.
    """
    for subject in originals.subjects():
        for study in subject.studies:
            if stop():
                return
            with quiet():
                if may_show(_headers(study)):
                    _faces(study, Opened(), settings, pixels)


def _headers(study: Sequence[Original]) -> Iterator[Header]:
    for original in study:
        with suppress(DicomError):  # refused when its turn comes
            yield Header.from_part10(parse(original.read()))


def _faces(
    study: Sequence[Original],
    opened: Opened,
    settings: Settings,
    pixels: PixelCleaner,
    beside: Sequence[Original] = (),
) -> Faces:
    if settings.faces == "keep":
        return Faces(searched=False)
    finder, frames = FaceFinder(), set[str]()
    for original in study:
        _show(finder, original, opened, pixels)
        if beside:
            frames |= _opened_frames(original, opened)
    for original in beside:
        if _opened_frames(original, opened) & frames:
            _show(finder, original, opened, pixels)
    faces = finder.faces()
    if faces.masks and settings.faces is None:
        raise UsageError(
            "a face can be made out in some of these images: run it again with --faces deface (taken off),"
            " refuse (left out) or keep; in Python, faces='deface', 'refuse' or 'keep'"
        )
    return faces


def _opened_frames(original: Original, opened: Opened) -> set[str]:
    try:
        return _frames_of(opened.source(original).dataset)
    except Refused:
        return set()


def _show(finder: FaceFinder, original: Original, opened: Opened, pixels: PixelCleaner) -> None:
    try:
        source = opened.source(original)
        header = source.header
    except DicomError:
        return  # refused when its turn comes
    if not finder.wants(header):
        return
    try:
        finder.look(header, pixels.frames(source.part10, header))
    except DicomError:
        finder.miss(header)


def _refuse_face(source: Source, faces: Faces) -> None:
    try:
        header = source.header
    except DicomError:
        raise Refused("data_set_malformed") from None
    if reference_of(header) in faces.masks:
        raise Refused("face_refused")


class _Recorder:
    """Pseudonyms that remember which UID became which; all else as the project's own."""

    def __init__(self, pseudonyms: Pseudonyms) -> None:
        self._own = pseudonyms
        self.uids: dict[str, str] = {}
        self.patient = pseudonyms.patient
        self.study_id = pseudonyms.study_id
        self.accession = pseudonyms.accession
        self.device = pseudonyms.device
        self.other = pseudonyms.other
        self.days = pseudonyms.days
        self.digest = pseudonyms.digest

    def uid(self, value: str) -> str:
        """Return the UID that stands for this one, and remember it."""
        made = self._own.uid(value)
        if made != value:
            self.uids[value] = made
        return made


__all__ = ["CHOICES", "Outcome", "Settings", "Whose", "ask_first", "context_of", "release", "whose"]
