"""The verb: a vault's series, or a folder, de-identified into a new vault or a new folder.

What a release is made with (rules, project, what to do about faces) is decided before anything is
read; what was made is signed for, described, and tells nothing of its source.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from voxelvault.deid.model import Option
from voxelvault.deid.pixels import PixelCleaner
from voxelvault.deid.profile import Profile, SiteRules, profile
from voxelvault.deid.receipt import Terms
from voxelvault.dicom.decode import DecoderPool
from voxelvault.errors import UsageError
from voxelvault.intake.interrupt import interruptible
from voxelvault.model import new_id
from voxelvault.releasing.hands import Hands, Here
from voxelvault.releasing.map_file import MapFile, map_of
from voxelvault.releasing.originals import LINK_OUTSIDE, Originals
from voxelvault.releasing.places import FolderPlace, ReleasePlace, VaultPlace
from voxelvault.releasing.progress import Progress
from voxelvault.releasing.projects import PathLike, Using
from voxelvault.releasing.review import Review, review_of
from voxelvault.releasing.run import Maps, Report, Steps, run
from voxelvault.releasing.study import CHOICES, Settings, ask_first, seldom_collected, whose

VOLUMES = ("nifti", "ome-zarr")
FORMATS = ("vault", "dicom", *VOLUMES, "parquet")
"""What a release can be."""

MAP_WRITTEN, ONE_TIME, RESAMPLED = "map_written", "one_time_project", "resampled"
"""Notes in the receipts."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How to de-identify.

    Parameters
    ----------
    preset : str
        ``research`` (the default) or ``basic``.
    options : sequence of Option
        Beside those of the preset.
    site : SiteRules, optional
        A site's own rules.
    faces : {"deface", "refuse", "keep"} or None
        What to do where a face can be made out; without, that is an error which asks.
    """

    preset: str = "research"
    options: Sequence[Option] = ()
    site: SiteRules | None = None
    faces: str | None = None

    def profile(self) -> Profile:
        """Return the rules in force.

        Raises
        ------
        UsageError
            Unknown ones, or options that exclude each other.
        """
        if self.faces not in (None, *CHOICES):
            raise UsageError(f"faces is one of {', '.join(CHOICES)}; choose one")
        if Option.CLEAN_FACES in self.options and self.faces != "deface":
            raise UsageError(
                f"{Option.CLEAN_FACES} is what --faces deface does (faces='deface'); choose that"
            )
        return profile(self.preset, self.options, self.site)


@dataclass(slots=True)
class ReleaseReport:
    """A release, and what became of every file.

    Attributes
    ----------
    path : Path
        Where it lies.
    report : Report
        Files released and refused, with reasons.
    signer : str
        Public key of the project's signatures, hexadecimal: hand it over beside the release.
    one_time : bool
        The project's key was for this run alone: nobody can make the same pseudonyms again.
    recovery_code : str or None
        Of a release that is a vault and was just made: shown once, and kept nowhere.
    interrupted : bool
        Ctrl-C ended it: the same call goes on, if there is a project.
    one_id : bool
        By a site's rule all patients have one PatientID, or none.
    """

    path: Path
    report: Report
    signer: str
    one_time: bool = False
    recovery_code: str | None = field(default=None, repr=False)
    interrupted: bool = False
    one_id: bool = False

    @property
    def complete(self) -> bool:
        """Nothing that is a patient's object was refused or left."""
        return self.report.complete and not self.interrupted

    def __str__(self) -> str:
        one = ", with one PatientID or none for all by a site's rule" if self.one_id else ""
        return str(self.report) + one + (f", {self._end}" if self.interrupted else "")

    @property
    def _end(self) -> str:
        if self.one_time:
            return "interrupted: with a key for one run alone it can't go on; delete it and begin anew"
        return "interrupted: run it again to go on"


@dataclass(frozen=True, slots=True)
class Extras:
    """What else a release may write, and tell along the way.

    Parameters
    ----------
    map_file : Path, optional
        Which path, UID and patient became which: re-identifies.
    hands : callable, optional
        Gives who does it, by the settings; this process by default.
    review : Path, optional
        A page of what was blanked and taken off, before and after: shows patients' own values.
    advance : callable
        Progress: called with the number of files done.
    """

    map_file: Path | None = None
    hands: Callable[[Settings], Hands] | None = None
    review: Path | None = None
    advance: Callable[[int], object] = lambda files: None


def release_folder(
    originals: Originals, out: PathLike, rules: Rules, mine: Using, extras: Extras | None = None
) -> ReleaseReport:
    """De-identify into a folder of plain DICOM files, with a DICOMDIR, receipts and a card.

    Parameters
    ----------
    originals : Originals
        What to release.
    out : path
        New or empty, or an unfinished release that goes on.
    rules : Rules
        How.
    mine : Using
        The project.
    extras : Extras, optional
        What else to write.

    Raises
    ------
    UsageError
        A place or a choice that can't be; or a face can be made out, and `rules.faces` is None.
    """
    place = FolderPlace(Path(out).expanduser())
    return _release(originals, place, rules, mine, extras or Extras())


def release_vault(
    originals: Originals, out: PathLike, rules: Rules, mine: Using, extras: Extras | None = None
) -> ReleaseReport:
    """De-identify into a vault of its own, with its own root key; parameters as `release_folder`.

    The vault is closed again; it opens with its key file in the user's configuration, or with the
    recovery code that the report shows once.
    """
    with VaultPlace(Path(out).expanduser()) as place:
        return _release(originals, place, rules, mine, extras or Extras())


def release_form(
    originals: Originals,
    out: PathLike,
    rules: Rules,
    mine: Using,
    extras: Extras | None = None,
    *,
    format: str,
    resample: bool = False,
) -> ReleaseReport:
    """De-identify into a folder of volumes or tables; other parameters as `release_folder`.

    Parameters
    ----------
    format : {"nifti", "ome-zarr", "parquet"}
        What the folder holds.
    resample : bool
        Interpolate uneven slices onto an even grid, instead of leaving such series out.

    Raises
    ------
    UsageError
        A map was asked for: these files are made from many.
    MissingExtra
        A package that writes the format is not installed.
    """
    from voxelvault.releasing.forms import form_of
    from voxelvault.releasing.made_place import MadePlace, Patient

    extras = extras or Extras()
    if extras.map_file is not None:
        raise UsageError("a map says which file became which: release as dicom, or leave the map out")
    pseudonyms = mine.opened.pseudonyms()
    settings = Settings(rules.profile(), pseudonyms, rules.faces)

    def patients() -> Iterator[Patient]:
        for subject in originals.subjects():
            every = [original for study in subject.studies for original in study]
            places = {pseudonyms.digest(original.read()): original.place for original in every}
            yield Patient(places, whose(subject, settings).searcher)

    with MadePlace(Path(out).expanduser(), form_of(format, resample=resample), patients) as place:
        notes = [format, *([RESAMPLED] if resample else [])]
        return _release(originals, place, rules, mine, extras, notes)


def release_as(
    originals: Originals,
    out: PathLike,
    rules: Rules,
    mine: Using,
    extras: Extras | None = None,
    *,
    format: str,
    resample: bool = False,
) -> ReleaseReport:
    """De-identify into one of `FORMATS`; parameters as of `release_form`.

    Raises
    ------
    UsageError
        No such format, nothing to release, or what the format's own function says.
    """
    _require_some(originals)
    if format not in FORMATS:
        raise UsageError(f"a release is made as one of {', '.join(FORMATS)}; choose one")
    if resample and format not in VOLUMES:
        raise UsageError("only volumes are resampled; choose nifti or ome-zarr")
    if format == "vault":
        return release_vault(originals, out, rules, mine, extras)
    if format == "dicom":
        return release_folder(originals, out, rules, mine, extras)
    return release_form(originals, out, rules, mine, extras, format=format, resample=resample)


def _require_some(originals: Originals) -> None:
    """Refuse to sign for nothing: it is a wrong folder, and a place made for it would be in the way."""
    if len(originals):
        return
    counts = sorted(Counter(reason for _, reason in originals.refused).items())
    told = ", ".join(f"{count} {reason}" for reason, count in counts)
    raise UsageError(
        f"there is nothing to de-identify, what was found is {told}; check the path of the folder"
        f"{', or --follow-links' if LINK_OUTSIDE in dict(counts) else ''}"
        if told
        else "there is nothing to de-identify, the folder holds no file; check its path"
    )


def _release(
    originals: Originals,
    place: ReleasePlace,
    rules: Rules,
    mine: Using,
    extras: Extras,
    notes: Sequence[str] = (),
) -> ReleaseReport:
    with place.alone(), seldom_collected():
        return _held(originals, place, rules, mine, extras, notes)


def _held(
    originals: Originals,
    place: ReleasePlace,
    rules: Rules,
    mine: Using,
    extras: Extras,
    notes: Sequence[str],
) -> ReleaseReport:
    chosen, faces = rules.profile(), rules.faces or ""
    notes = [*notes, *([MAP_WRITTEN] if extras.map_file else [])]
    issuer = mine.opened.pseudonyms().digest(originals.issuer.encode())
    progress = Progress(place.shelf, _terms(chosen, mine, notes), mine.opened.project.signing, faces, issuer)
    place.sweep(progress)
    goes_on = progress.goes_on
    review = review_of(place.path, extras.review, mine, progress.terms.release_id, goes_on=goes_on)
    with map_of(place.path, extras.map_file, goes_on=goes_on) as maps, review as look:
        report, interrupted = _run(originals, place, chosen, rules, mine, progress, extras, maps, look)
    if not interrupted:
        ending = place.finish(progress, mine, chosen, faces)
        report.leave_out(ending.left_out)
        report.patients, report.blanked = ending.patients, progress.blanked
    return ReleaseReport(
        place.path,
        report,
        mine.opened.project.signing.hex(),
        mine.one_time,
        place.recovery_code,
        interrupted,
        chosen.one_patient_id(),
    )


def _run(
    originals: Originals,
    place: ReleasePlace,
    chosen: Profile,
    rules: Rules,
    mine: Using,
    progress: Progress,
    extras: Extras,
    maps: MapFile,
    look: Review,
) -> tuple[Report, bool]:
    """Do it; return the report, and whether Ctrl-C ended it."""

    def record(pairs: Maps) -> None:
        if mine.keeps_ledger and mine.stored is not None:
            mine.stored.record(mine.opened, pairs)
        maps.add(pairs)

    settings = Settings(chosen, mine.opened.pseudonyms(), rules.faces, originals.like_designations())
    with DecoderPool() as pool, interruptible("study") as stop:
        steps = Steps(record, look.take, extras.advance, stop.is_set)
        cleaner = PixelCleaner(pool, pictures=look.wanted)
        if mine.one_time and rules.faces is None:
            ask_first(originals, settings, cleaner, stop.is_set)
        hands = extras.hands(settings) if extras.hands else Here(settings, cleaner)
        report = run(originals, place.target, settings, hands, progress, steps)
        maps.add({"paths": {refused: None for refused, _ in originals.refused}})
        return report, stop.is_set()


def _terms(chosen: Profile, mine: Using, notes: Sequence[str]) -> Terms:
    every = tuple([*notes, ONE_TIME] if mine.one_time else notes)
    code = version("voxelvault")
    return Terms(new_id(), chosen.name, chosen.digest, chosen.edition, chosen.codes, code, every)


__all__ = ["FORMATS", "Extras", "ReleaseReport", "Rules", "release_as", "release_folder", "release_vault"]
