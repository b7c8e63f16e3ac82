"""What proves a release: its files held against the receipts in it, and its card."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from voxelvault.crypto.ways import Ways
from voxelvault.deid.card import RECEIPTS
from voxelvault.deid.project_shelf import SealedShelf, shelves_in
from voxelvault.deid.receipt import Verification, order, verify_release
from voxelvault.errors import IntegrityError, ObjectMissing
from voxelvault.model import Buffer
from voxelvault.opening import close_vault, open_vault
from voxelvault.releasing.originals import VaultOriginals
from voxelvault.releasing.places import CARD, CROISSANT
from voxelvault.releasing.strangers import strangers
from voxelvault.releasing.targets import lying
from voxelvault.resources import Resources


def verify_folder(folder: Path, signer: bytes | None = None) -> Verification:
    """Hold a folder against the receipts in it; no key is needed.

    Everything in the folder counts: files, links, empty folders, what a run left that isn't whole.

    Parameters
    ----------
    folder : Path
        The release.
    signer : bytes, optional
        The project's public key, got from elsewhere.

    Raises
    ------
    IntegrityError
        There are no receipts, or they were changed.
    """
    place = folder / RECEIPTS
    if not place.is_file():
        raise IntegrityError(
            "this folder has no receipts.jsonl: it is no release, or not all of one; have it sent again"
        )
    files = (
        (path, (folder / path).read_bytes() if plain else None)
        for path, plain in lying(folder)
        if path != RECEIPTS or not plain
    )
    with place.open("rb") as document:
        return verify_release(document, files, signer)


@contextmanager
def received(
    place: Path, ways: Ways, *, fingerprint: str | None = None, checkpoint: str | None = None
) -> Iterator[Resources]:
    """Open a release that is a vault, to look at it: nothing is written into it.

    Parameters
    ----------
    place : Path
        The release.
    ways, fingerprint, checkpoint
        As `voxelvault.opening.open_vault` takes them.
    """
    resources = open_vault(place, ways, fingerprint=fingerprint, checkpoint=checkpoint, received=True)
    try:
        yield resources
    finally:
        close_vault(resources)


def verify_vault(resources: Resources, signer: bytes | None = None) -> Verification:
    """Hold an open release against the receipts sealed in it; parameters as `verify_folder`.

    Everything that lies in the vault counts; what is not its own is told by the object's name.
    """
    found = verify_release(io.BytesIO(_told(resources, RECEIPTS)), _vault_files(resources), signer)
    return replace(found, extra=(*found.extra, *strangers(resources)))


def vault_card(resources: Resources, name: str = CARD) -> str:
    """Return the card sealed in an open release: Markdown, or JSON-LD where `name` is `CROISSANT`.

    It is held against the receipts; the images that it counts are not, which is what `verify_vault` does.

    Raises
    ------
    IntegrityError
        The vault is no release, or the card is not the one that was signed for.
    """
    return _signed_for(io.BytesIO(_told(resources, RECEIPTS)), name, _told(resources, name))


def folder_card(folder: Path, name: str = CARD) -> str:
    """Return the card in a folder; as `vault_card`."""
    try:
        data = (folder / name).read_bytes()
        with (folder / RECEIPTS).open("rb") as document:
            return _signed_for(document, name, data)
    except OSError:
        raise IntegrityError(
            "this folder has no card and receipts: it is no release, or not all of one; have it sent again"
        ) from None


def _signed_for(document: Iterable[bytes], name: str, data: bytes) -> str:
    found = verify_release(document, [(name, data)])
    if name in (*found.changed, *found.extra):
        raise IntegrityError("the card is not the one that was signed for; run `deidentify verify`")
    return data.decode("utf-8")


def _told(resources: Resources, name: str) -> bytes:
    """Return a document of a release, wherever else projects lie in its vault."""
    damaged: IntegrityError | None = None
    for place in shelves_in(resources.objects):
        try:
            return SealedShelf(resources.objects, resources.keys, place).get(name)[0]
        except ObjectMissing:
            continue
        except IntegrityError as error:
            damaged = error  # a stranger's, if another place has it whole
    raise damaged or IntegrityError("this vault holds no receipts: it is no release, or an unfinished one")


def _vault_files(resources: Resources) -> Iterator[tuple[str, Buffer]]:
    """Yield instances and card by their paths, a study at a time."""
    studies = resources.catalog.query("select distinct StudyInstanceUID as uid from studies")[
        "uid"
    ].to_pylist()
    for uid in sorted(studies):
        yield from _study_files(resources, uid)
    for name in (CARD, CROISSANT):
        yield name, _told(resources, name)


def _study_files(resources: Resources, uid: str) -> Iterator[tuple[str, Buffer]]:
    rows = resources.catalog.query(
        "select i.instance_id, i.series_id, s.SeriesInstanceUID || '/' || i.SOPInstanceUID || '.dcm' as path"
        " from instances i join series s using (series_id)"
        " where not i.superseded and s.StudyInstanceUID = $uid",
        {"uid": uid},
    ).to_pylist()
    if not rows:
        return
    paths = {row["instance_id"]: f"{uid}/{row['path']}" for row in rows}
    originals = (
        (paths[original.place], original)
        for subject in VaultOriginals(resources, sorted({row["series_id"] for row in rows})).subjects()
        for study in subject.studies
        for original in study
    )
    for path, original in sorted(originals, key=lambda one: order(one[0])):
        yield path, original.read()


__all__ = ["folder_card", "received", "vault_card", "verify_folder", "verify_vault"]
