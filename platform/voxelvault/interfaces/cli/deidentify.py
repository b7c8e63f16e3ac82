"""`deidentify`: releases, and what proves them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from voxelvault.errors import UsageError
from voxelvault.interfaces.cli.command import PARTLY, Session, pass_session, scheduling, verb
from voxelvault.interfaces.cli.deidentify_ledger import ledger
from voxelvault.interfaces.cli.deidentify_pictures import pictures
from voxelvault.interfaces.cli.deidentify_projects import approver, custodian, project
from voxelvault.interfaces.cli.deidentify_telling import tell_release, tell_verified
from voxelvault.interfaces.cli.output import emit, say

OPTIONS = (
    *("clean_pixels", "clean_visual_features", "clean_graphics", "clean_structured", "clean_descriptors"),
    *("retain_full_dates", "retain_modified_dates", "retain_patient_characteristics", "retain_device"),
    *("retain_uids", "retain_safe_private", "retain_institution"),
)
"""Values of `voxelvault.deid.model.Option`, which is not imported for a `--help`."""

_FILE = click.Path(path_type=Path)


class _Releases(click.Group):
    """A group whose first word, when it is no verb of its own, is a folder to be released."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            args = ["release", *args]
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, "-h", "--help"):
            args = ["release", *args]
        return super().parse_args(ctx, args)


@click.group("deidentify", cls=_Releases)
def deidentify() -> None:
    """De-identify into a release of its own; prove it, and open what reverses it.

    \b
    voxelvault deidentify SRC --to DST                       a folder, without a vault
    voxelvault --vault V deidentify --all --out RELEASE      of a vault, into a vault
    """  # noqa: D301


@verb(
    "release",
    "voxelvault deidentify /data/dicom --to /data/released --faces deface",
    "voxelvault deidentify /data/dicom --to /data/released --project /keys/study-7 --map /keys/map.json",
    "voxelvault --vault ~/vault deidentify --all --out ~/release --faces deface",
    "voxelvault --vault ~/vault deidentify --cohort \"Modality = 'CT'\" --out ~/files --format dicom",
    "voxelvault --vault ~/vault deidentify --all --out ~/volumes --format nifti --faces deface",
)
@click.argument("source", required=False, type=click.Path(path_type=Path))
@click.option("--to", "target", type=click.Path(path_type=Path), metavar="DIR", help="Of a folder SOURCE.")
@click.option("--out", type=click.Path(path_type=Path), metavar="PLACE", help="Of a vault's series.")
@click.option("--cohort", metavar="SQL", help="Series of the vault, by a condition.")
@click.option("--study", metavar="UID", help="One study of the vault.")
@click.option("--all", "everything", is_flag=True, help="Every series of the vault.")
@click.option(
    "--profile",
    type=click.Choice(["research", "basic"]),
    default="research",
    show_default=True,
    help="basic obeys the table to the letter; research keeps cleaned descriptors and moved dates.",
)
@click.option(
    "--option", "options", multiple=True, type=click.Choice(OPTIONS), help="Beside those; repeat it."
)
@click.option(
    "--rules", type=click.Path(path_type=Path), metavar="FILE", help="A site's own rules: TOML, CTP or deid."
)
@click.option(
    "--faces",
    type=click.Choice(["deface", "refuse", "keep"]),
    help="Where a face can be made out; else it asks.",
)
@click.option("--project", metavar="PLACE", help="Folder of a project, or the id of one inside the vault.")
@click.option(
    "--map",
    "map_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What became of what; re-identifies.",
)
@click.option(
    "--review",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A page of what was blanked, before and after; shows names.",
)
@click.option("--follow-links", is_flag=True, help="Links out of SOURCE too; else they are left out.")
@click.option("--issuer", default="", help="Of patient ids whose header names none.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["vault", "dicom", "nifti", "ome-zarr", "parquet"]),
    help="What the release is: by default as its source, a vault or DICOM files.",
)
@click.option("--resample", is_flag=True, help="Interpolate uneven slices of volumes.")
@scheduling
@pass_session
def release(
    session: Session,
    source: Path | None,
    target: Path | None,
    out: Path | None,
    cohort: str | None,
    study: str | None,
    everything: bool,
    profile: str,
    options: Sequence[str],
    rules: Path | None,
    faces: str | None,
    project: str | None,
    map_file: Path | None,
    review: Path | None,
    follow_links: bool,
    issuer: str,
    format_: str | None,
    resample: bool,
    cluster: dict[str, Any],
    as_json: bool,
) -> int:
    """De-identify a folder SOURCE into another, or a vault's series into a release.

    A release is signed for: `deidentify verify` holds it against its receipts. What can't be cleaned
    is left out and listed (exit code 3), and so are images with a face under --faces refuse. Run it
    again to go on after an interruption.
    """
    from voxelvault.releasing.deidentify import Rules

    chosen = Rules(profile, _options(options), _site_rules(rules), faces)
    if source is not None:
        if target is None or out or cohort or study or everything:
            raise UsageError(
                "a folder is released with --to DIR, and without --out, --cohort, --study or --all"
            )
        form = {"format": format_ or "dicom", "resample": resample}
        beside = {"map_file": map_file, "review": review}
        look = {"issuer": issuer, "follow_links": follow_links}
        made = _of_folder(session, source, target, chosen, project, look, form, beside)
    else:
        if out is None or bool(cohort) + bool(study) + everything != 1:
            raise UsageError(
                "say what to release: a folder with --to, or one of --all, --study, --cohort with --out"
            )
        form = {"format": format_ or "vault", "resample": resample}
        wanted = {**form, "project": project, "map_file": map_file, "review": review, **cluster}
        made = _of_vault(session, out, chosen, cohort, study, wanted)
    tell_release(made, map_file, review, as_json, resampled=resample)
    return 0 if made.complete else PARTLY


def _of_folder(
    session: Session,
    source: Path,
    target: Path,
    rules: Any,
    project: str | None,
    look: dict[str, Any],
    form: dict[str, Any],
    beside: dict[str, Any],
) -> Any:
    from voxelvault.display.progress import Progress
    from voxelvault.releasing.deidentify import Extras
    from voxelvault.releasing.from_vault import deidentify_folder
    from voxelvault.releasing.originals import FolderOriginals
    from voxelvault.releasing.projects import using

    if not source.is_dir():
        raise UsageError("there is no folder of that name to de-identify; check the path")
    if target.resolve().is_relative_to(source.resolve()) or source.resolve().is_relative_to(target.resolve()):
        raise UsageError("source and release must not lie within one another; choose another folder")
    with ExitStack() as opened:
        # A vault that is named gets the entry; the configuration's is not opened for what isn't its own.
        vault = opened.enter_context(session.open()) if session.vault else None
        resources = vault.resources if vault else None
        mine = using(project, resources if project else None)
        with Progress("look", shown=None) as looked:
            originals = FolderOriginals(source, advance=looked.advance, **look)
        bar = opened.enter_context(Progress("deidentify", len(originals)))
        extras = Extras(**beside, advance=bar.advance)
        return deidentify_folder(resources, originals, target, rules, mine, extras, **form)


def _of_vault(
    session: Session,
    out: Path,
    rules: Any,
    cohort: str | None,
    study: str | None,
    wanted: dict[str, Any],
) -> Any:
    with session.open() as vault:
        chosen = vault.select(uids=[study]) if study else vault.select(cohort)
        return chosen.release(out, rules, **wanted)


def _options(names: Sequence[str]) -> Sequence[Any]:
    from voxelvault.deid.model import Option

    return tuple(Option(name) for name in names)


def _site_rules(path: Path | None) -> Any:
    from voxelvault.releasing.site import site_rules

    return None if path is None else site_rules(path)


@verb(
    "verify",
    "voxelvault deidentify verify /data/released",
    "voxelvault deidentify verify ~/release --signer 5f0c…",
)
@click.argument("place", type=click.Path(path_type=Path))
@click.option("--signer", metavar="HEX", help="The project's public key, as its custodian handed it over.")
@pass_session
def verify(session: Session, place: Path, signer: str | None, as_json: bool) -> int:
    """Hold a release against its receipts; no key of the project is needed.

    Of a folder every file is read; of a vault too, which opens with a key of the release. Nothing is
    written into either.
    """
    found = _verified(session, place, _signer(signer))
    tell_verified(found, as_json, asked=signer is not None)
    return 0 if found.ok else 1


def _verified(session: Session, place: Path, signer: bytes | None) -> Any:
    from voxelvault.releasing.proving import verify_folder, verify_vault

    if not _is_vault(session, place):
        return verify_folder(place, signer)
    with _received(session, place) as resources:
        return verify_vault(resources, signer)


def _is_vault(session: Session, place: Path) -> bool:
    from voxelvault.storage.layout import VAULT_TOML

    if session.accept_restore:
        raise UsageError(
            "--accept-restore is for a vault of your own: no copy of a release counts as older than another;"
            " leave it out"
        )
    if not place.is_dir():
        raise UsageError("there is no folder of that name; check the path of the release")
    return (place / VAULT_TOML).exists()


def _received(session: Session, place: Path) -> Any:
    from voxelvault.crypto.ways import Ways
    from voxelvault.releasing.proving import received

    ways = Ways(session.key_file, session.passphrase())
    return received(place, ways, fingerprint=session.fingerprint, checkpoint=session.checkpoint())


@verb("card", "voxelvault deidentify card ~/release", "voxelvault deidentify card ~/release --json")
@click.argument("place", type=click.Path(path_type=Path))
@pass_session
def card(session: Session, place: Path, as_json: bool) -> int:
    """Print what is in a release, how it was made, and what it can't promise.

    The card is the one that was signed for, or this is an error; whether the images still are, `verify`
    says. With --json, the card is JSON-LD of Croissant 1.0.
    """
    from voxelvault.releasing.places import CROISSANT
    from voxelvault.releasing.proving import folder_card, vault_card

    name = (CROISSANT,) if as_json else ()
    if _is_vault(session, place):
        with _received(session, place) as resources:
            text = vault_card(resources, *name)
    else:
        text = folder_card(place, *name)
    click.echo(text)
    say("the card is as signed for; `voxelvault deidentify verify` says whether the images are")
    return 0


def _signer(text: str | None) -> bytes | None:
    try:
        return None if text is None else bytes.fromhex(text)
    except ValueError:
        raise UsageError("a signer is a public key in hexadecimal; copy it whole") from None


@verb(
    "explain",
    "voxelvault deidentify explain StudyDescription",
    "voxelvault deidentify explain 0019,xx0C --creator 'SIEMENS MR HEADER'",
)
@click.argument("tag")
@click.option("--creator", help="Of a private element.")
@click.option("--profile", type=click.Choice(["research", "basic"]), default="research", show_default=True)
@click.option("--option", "options", multiple=True, type=click.Choice(OPTIONS))
@click.option("--rules", type=click.Path(path_type=Path), metavar="FILE", help="A site's own rules.")
@pass_session
def explain(
    session: Session,
    tag: str,
    creator: str | None,
    profile: str,
    options: Sequence[str],
    rules: Path | None,
    as_json: bool,
) -> int:
    """Say what becomes of an element, which rule decides, and what each option would change."""
    from voxelvault.deid.explain import explain as explained
    from voxelvault.deid.explain import title
    from voxelvault.deid.profile import profile as made

    own = [made(profile, _options(options), _site_rules(rules))] if options or rules else []
    found = explained(tag, creator, policies=own)
    emit([str(one) for one in found], [title(tag, creator), *map(str, found)], as_json)
    return 0


for _verb in (release, verify, card, explain, pictures, project, custodian, approver, ledger):
    deidentify.add_command(_verb)

__all__ = ["deidentify"]
