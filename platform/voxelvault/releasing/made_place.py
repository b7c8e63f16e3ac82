"""A release of volumes or tables: made through a vault in a private place, which is gone afterwards."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from voxelvault.crypto.ways import Ways
from voxelvault.deid import card
from voxelvault.deid.leak_check import Searcher
from voxelvault.deid.profile import Profile
from voxelvault.deid.project_shelf import FolderShelf, Shelf
from voxelvault.deid.receipt import Made, Receipt, Refusal
from voxelvault.dicom.read import Header
from voxelvault.errors import MalformedDicom
from voxelvault.files import replace_file
from voxelvault.opening import close_vault, create_vault, open_vault
from voxelvault.releasing.facts import facts, vault_headers
from voxelvault.releasing.forms import TABLES, VOLUMES, Form
from voxelvault.releasing.places import (
    CARD,
    CROISSANT,
    MAKER,
    RECEIPTS,
    UNFINISHED,
    all_files,
    file_of,
    refused_in,
    signed,
)
from voxelvault.releasing.progress import Progress
from voxelvault.releasing.projects import Using
from voxelvault.releasing.run import LEAK
from voxelvault.releasing.targets import Target, VaultTarget, one_time, require_empty
from voxelvault.resources import Resources
from voxelvault.storage.layout import VAULT_TOML
from voxelvault.storage.objects import LocalObjects

NO_VOLUME = "not_a_volume"


@dataclass(frozen=True, slots=True)
class Patient:
    """Keyed digests of a patient's originals, and what must not be found of the patient."""

    sources: Collection[str] = field(repr=False)
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
        self._unfinished = path / UNFINISHED
        if not self._unfinished.exists():
            require_empty(path)
        self._unfinished.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.shelf: Shelf = FolderShelf(LocalObjects(self._unfinished))
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
        if (self.path / RECEIPTS).exists():
            shutil.rmtree(self._unfinished)
            one_time(self.path)

    def finish(
        self, progress: Progress, mine: Using, chosen: Profile, faces: str
    ) -> Sequence[tuple[str, str]]:
        """Write what the release is, search it, sign for it, and describe it."""
        for name in (VOLUMES, TABLES):  # of a run that was killed
            shutil.rmtree(self.path / name, ignore_errors=True)
        refused = dict.fromkeys(self._form.write(self._resources, self.path), NO_VOLUME)
        leaks = self._leaks(progress.entries)
        if leaks:
            self._form.drop(self.path, leaks)
        receipts = [entry for entry in progress.entries if isinstance(entry, Receipt)]
        left_out = [(entry, reason) for entry in receipts if (reason := _why(entry, refused, leaks))]
        progress.leave_out(left_out)
        made = [Made(path, hashlib.sha256(data).hexdigest()) for path, data in all_files(self.path)]
        document = signed(progress, mine, made, apart=True)
        told = facts(
            (one for one in vault_headers(self._resources) if not _lies_out(one, refused, leaks)),
            progress.terms,
            chosen.options,
            refused=refused_in(progress),
            faces=faces,
            files=[file_of(RECEIPTS, document)],
            pattern=self._form.pattern,
            media_type=self._form.media_type,
        )
        replace_file(self.path / CARD, card.markdown(told).encode())
        replace_file(self.path / CROISSANT, card.croissant(told).encode())
        replace_file(self.path / RECEIPTS, document)
        return [(entry.path, reason) for entry, reason in left_out]

    def _leaks(self, entries: Iterable[Receipt | Refusal]) -> set[str]:
        """Return the studies of which a value of the patient was found in what was written."""
        studies = {entry.source: _uids(entry)[0] for entry in entries if isinstance(entry, Receipt)}
        found: set[str] = set()
        for patient in self._patients():
            own = {studies[source] for source in patient.sources if source in studies}
            found |= {study for study in own if self._is_found(study, patient.searcher)}
        return found

    def _is_found(self, study: str, searcher: Searcher) -> bool:
        try:
            return any(
                searcher.other_file(data, pixels=pixels)
                for data, pixels in self._form.lying(self.path, study)
            )
        except MalformedDicom:
            return True  # what can't be read can't be vouched for


def _uids(receipt: Receipt) -> tuple[str, str]:
    study, series, _ = receipt.path.split("/")
    return study, series


def _why(entry: Receipt, refused: dict[str, str], leaks: Collection[str]) -> str:
    study, series = _uids(entry)
    return LEAK if study in leaks else refused.get(series, "")


def _lies_out(header: Header, refused: Collection[str], leaks: Collection[str]) -> bool:
    return header.get("StudyInstanceUID") in leaks or header.get("SeriesInstanceUID") in refused


__all__ = ["MadePlace", "Patient"]
