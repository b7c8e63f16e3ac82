"""A release of volumes or tables: made through a vault in a private place, which is gone afterwards."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType

from voxelvault.config import Pins
from voxelvault.crypto.ways import Ways
from voxelvault.deid.leak_check import Searcher
from voxelvault.deid.profile import Profile
from voxelvault.deid.project_shelf import FolderShelf, Shelf
from voxelvault.deid.receipt import Made, Receipt
from voxelvault.dicom.read import Header
from voxelvault.errors import MalformedDicom
from voxelvault.files import replace_file
from voxelvault.opening import close_vault, create_vault, open_vault
from voxelvault.releasing.facts import Tally, vault_headers
from voxelvault.releasing.forms import TABLES, VOLUMES, Form
from voxelvault.releasing.places import (
    CARD,
    CROISSANT,
    MAKER,
    UNDER_WAY,
    Ending,
    begun,
    end_folder,
    put_card,
    require_whole,
    signed,
    sweep_folder,
    sweep_vault,
)
from voxelvault.releasing.progress import Progress
from voxelvault.releasing.projects import Using
from voxelvault.releasing.run import LEAK
from voxelvault.releasing.targets import Target, VaultTarget, lying
from voxelvault.resources import Resources
from voxelvault.storage.layout import VAULT_TOML
from voxelvault.storage.objects import LocalObjects

NO_VOLUME = "not_a_volume"


@dataclass(frozen=True, slots=True)
class Patient:
    """A patient's originals, and what must not be found of the patient.

    Parameters
    ----------
    places : mapping of str to str
        Where each original lies, by its keyed digest; may name the patient.
    searcher : Searcher
        Of the patient's values.
    """

    places: Mapping[str, str] = field(repr=False)
    searcher: Searcher


class MadePlace:
    """A folder of volumes or tables.

    Parameters
    ----------
    path : Path
        New or empty, or an unfinished release.
    form : Form
        What it holds.
    patients : callable
        Yields the patients again, once all are released: what was made of them is searched for their
        values.

    Raises
    ------
    UsageError
        The folder holds something else.
    """

    recovery_code: str | None = None

    def __init__(self, path: Path, form: Form, patients: Callable[[], Iterator[Patient]]) -> None:
        self.path, self._form, self._patients = path, form, patients
        self._unfinished = begun(path)
        self.shelf: Shelf = FolderShelf(LocalObjects(self._unfinished))
        self._end: Callable[[], object] = lambda: None
        self._resources = self._open()
        self.target: Target = VaultTarget(self._resources)

    def _open(self) -> Resources:
        vault, ways = self._unfinished / "vault", Ways(self._unfinished / "key")
        if (vault / VAULT_TOML).exists():
            return open_vault(vault, ways, who=MAKER)
        shutil.rmtree(vault, ignore_errors=True)
        return create_vault(vault, ways, who=MAKER).resources

    def __enter__(self) -> MadePlace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        close_vault(self._resources)
        if error is None:
            self._end()

    def alone(self) -> AbstractContextManager[None]:
        """Hold the place; see `ReleasePlace`."""
        return LocalObjects(self._unfinished).lock(UNDER_WAY, 0)

    def sweep(self, progress: Progress) -> None:
        """Take away what a killed run left: all that was made, and studies that no receipt is of."""
        for name in (VOLUMES, TABLES):
            shutil.rmtree(self.path / name, ignore_errors=True)
        sweep_folder(self.path, (CARD, CROISSANT), ())
        sweep_vault(self._resources, progress)

    def finish(self, progress: Progress, mine: Using, chosen: Profile, faces: str) -> Ending:
        """Write what the release is, search it, sign for it, and describe it."""
        require_whole(self._resources, progress)
        refused = dict.fromkeys(self._form.write(self._resources, self.path), NO_VOLUME)
        leaks, left_out = self._searched(progress, refused)
        if leaks:
            self._form.drop(self.path, leaks)
        for path, _, reason in left_out:
            progress.leave_out(path, reason)
        tally = Tally(chosen)
        for header in vault_headers(self._resources):
            if not _lies_out(header, refused, leaks):
                tally.add(header)
        how = {"pattern": self._form.pattern, "media_type": self._form.media_type}
        told = tally.facts(progress.terms, refused=progress.refused, faces=faces, **how)
        made = put_card(told, lambda name, data: replace_file(self.path / name, [data]))
        made += [Made(path, _sha256(self.path / path)) for path in self._made()]
        lines = signed(progress, mine, made, apart=True)
        self._end = partial(self._whole, lines)
        return Ending(told.counts["patients"], [(original, reason) for _, original, reason in left_out])

    def _made(self) -> Iterator[str]:
        for name in (VOLUMES, TABLES):
            if (self.path / name).exists():
                yield from (f"{name}/{path}" for path, _ in lying(self.path / name))

    def _whole(self, lines: Callable[[], Iterator[bytes]]) -> None:
        Pins().forget(self._resources.settings.vault_id)
        end_folder(self.path, lines)

    def _searched(
        self, progress: Progress, refused: Mapping[str, str]
    ) -> tuple[set[str], list[tuple[str, str, str]]]:
        """Search what was written for the patients' own values.

        Returns
        -------
        set of str
            The studies of which something was found.
        list of (str, str, str)
            What is left out, of those or of `refused` series: its path in the receipts, the place of the
            original, which alone says something to whoever has that, and why.
        """
        found, left_out = set[str](), list[tuple[str, str, str]]()
        for patient in self._patients():
            own = [
                (place, one) for source, place in patient.places.items() for one in progress.of_source(source)
            ]
            studies = {_uids(one)[0] for _, one in own}
            leaks = {study for study in studies if self._is_found(study, patient.searcher)}
            left_out += [(one.path, place, why) for place, one in own if (why := _why(one, refused, leaks))]
            found |= leaks
        return found, left_out

    def _is_found(self, study: str, searcher: Searcher) -> bool:
        try:
            return any(
                searcher.other_file(data, pixels=pixels)
                for data, pixels in self._form.lying(self.path, study)
            )
        except MalformedDicom:
            return True  # what can't be read can't be vouched for


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _uids(receipt: Receipt) -> tuple[str, str]:
    study, series, _ = receipt.path.split("/")
    return study, series


def _why(entry: Receipt, refused: Mapping[str, str], leaks: Collection[str]) -> str:
    study, series = _uids(entry)
    return LEAK if study in leaks else refused.get(series, "")


def _lies_out(header: Header, refused: Collection[str], leaks: Collection[str]) -> bool:
    return header.get("StudyInstanceUID") in leaks or header.get("SeriesInstanceUID") in refused


__all__ = ["MadePlace", "Patient"]
