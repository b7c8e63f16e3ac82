"""Making and opening a vault: keys, log, catalog and policy put together, and nothing read before."""

from __future__ import annotations

import getpass
import os
import re
import sys
import tempfile
import tomllib
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from voxelvault.audit.events import Event, Kind
from voxelvault.audit.log import AuditLog
from voxelvault.audit.rollback import accept_restore, check_heads, check_pin, remember
from voxelvault.catalog.catalog import Catalog
from voxelvault.catalog.choosing import EMBEDDED, ChosenCatalog
from voxelvault.config import Pins, default_key_file, given_checkpoint
from voxelvault.crypto.key_store import RECORD
from voxelvault.crypto.keyring import KeyRing, Role
from voxelvault.crypto.providers.passphrase import MEMORY_KIB, PassphraseProvider
from voxelvault.crypto.providers.recovery import RecoveryProvider, new_code
from voxelvault.crypto.vault_record import parse
from voxelvault.crypto.ways import Ways as Ways
from voxelvault.crypto.ways import first_slots
from voxelvault.dicom.columns import Tags, load_tags
from voxelvault.dicom.decode import DecoderPool
from voxelvault.errors import (
    IntegrityError,
    KeyUnavailable,
    MissingExtra,
    NewerFormat,
    NoPermission,
    NotAVault,
    ObjectMissing,
    OlderFormat,
    RollbackDetected,
    UsageError,
    VaultExists,
)
from voxelvault.files import disk_error
from voxelvault.model import LAYOUT, ObjectStore, new_id
from voxelvault.policy.access import OwnerPolicy, Request, require
from voxelvault.reading.newest import check_newest_pack
from voxelvault.readonly import is_writable, require_writable, side_log
from voxelvault.resources import Resources, Settings
from voxelvault.storage.codecs import codec_named
from voxelvault.storage.layout import TAGS, VAULT_TOML
from voxelvault.storage.mounts import require_local
from voxelvault.storage.places import Place, kind_of, place_of, require_conditions, store_at
from voxelvault.storage.sealed_objects import SealedObjects


@dataclass(frozen=True, slots=True)
class Created:
    """A new vault: its parts, and the recovery code, which is shown once and kept nowhere."""

    resources: Resources
    recovery_code: str
    warnings: tuple[str, ...]


def create_vault(
    path: str | os.PathLike[str],
    ways: Ways,
    *,
    purpose: str | None = None,
    codec: str = "htj2k",
    residency: str = "",
    catalog: str = EMBEDDED,
    memory_kib: int = MEMORY_KIB,
    who: str | None = None,
) -> Created:
    """Make a vault in an empty or new folder, or in object storage.

    Parameters
    ----------
    path : path
        On a local disk, or a URL such as s3://bucket/folder.
    ways : Ways
        With a passphrase or a key service: a slot of that; else a key file is made, outside the vault.
    purpose : str, optional
        Code of the purpose of use, for the log.
    codec : str
        Default codec.
    residency : str
        Region where the data must stay; public.
    catalog : str
        `embedded`, or the address of a PostgreSQL database; public.
    memory_kib : int
        Argon2id memory of a passphrase slot.
    who : str, optional
        Who stands in the log instead of this account.

    Raises
    ------
    VaultExists
        There is a vault.
    UsageError
        The folder isn't empty, or a choice is unknown.
    NetworkFileSystem
        Embedded writing needs a local disk.
    KeyUnavailable
        The key service refused, or does not give back what it wrapped.
    """
    place = place_of(path)
    codec_named(codec)
    store = store_at(place)
    _require_free(place, store)
    settings = Settings(new_id(), codec=codec, residency=residency, objects=kind_of(place), catalog=catalog)
    chosen = ChosenCatalog(catalog, settings.vault_id)
    if not chosen.anywhere and isinstance(place, Path):
        require_local(place)
    chosen.check()
    text = _toml(settings)
    objects = chosen.locked(store)
    code = new_code()
    slots = [*first_slots(ways, settings.vault_id, memory_kib), RecoveryProvider(code).slot("recovery code")]
    keys = KeyRing.create(
        objects, settings.vault_id, text, slots, providers=ways.providers(settings.vault_id)
    )
    for role in (Role.LOG, Role.LOG_TEXT, Role.PATHS, Role.CATALOG):
        keys.new_key(role)
    keys.commit()
    audit = AuditLog.create(objects, keys)
    tags = load_tags()
    with ExitStack() as opened:
        made = chosen.create(objects, keys, tags)
        opened.callback(made.close)
        resources = _resources(settings, objects, keys, made, audit, tags, purpose, who)
        opened.callback(resources.pool.close)
        audit.append([_event(resources, Kind.VAULT_CREATED)])
        remember(Pins(), settings.vault_id, audit, keys.number)
        own_file = ways.passphrase is None and ways.key_service is None
        warnings = key_file_warnings(place, ways.key_file, settings.vault_id) if own_file else []
        # The description comes last: a vault that was half made, its recovery code never shown, is none.
        objects.put(VAULT_TOML, [text])
        opened.pop_all()
    return Created(resources, code, tuple(warnings))


def _require_free(place: Place, store: ObjectStore) -> None:
    try:
        if isinstance(place, Path):
            found = (place / VAULT_TOML).exists()
            free = not place.exists() or (place.is_dir() and not any(place.iterdir()))
        else:
            require_conditions(store)
            names = {info.name for info in store.list("")}
            found, free = VAULT_TOML in names, not names
    except OSError as error:
        raise disk_error(error) from None
    if found:
        raise VaultExists("there is a vault already; open it, or choose another folder")
    if not free:
        raise UsageError("the folder for a new vault must be empty; choose another")


def open_vault(
    path: str | os.PathLike[str],
    ways: Ways,
    *,
    purpose: str | None = None,
    fingerprint: str | None = None,
    checkpoint: str | None = None,
    accept: bool = False,
    anew: bool = False,
    who: str | None = None,
    received: bool = False,
) -> Resources:
    """Open a vault; never makes one, and asks for a passphrase only at a terminal.

    Parameters
    ----------
    path : path
        Of the vault; a folder or a URL.
    ways : Ways
        Keys at hand.
    purpose : str, optional
        Code of the purpose of use, for the log.
    fingerprint : str, optional
        Whose vault it must be, for a recipient's key.
    checkpoint : str, optional
        A checkpoint kept elsewhere that the log must extend.
    accept : bool
        Take an older copy that was put back; an entry of its own.
    anew : bool
        Leave the catalog unopened, to write it anew: keys and log are checked all the same.
    who : str, optional
        Who stands in the log instead of this account.
    received : bool
        Somebody handed it over: nothing is written into it, and no pin is compared or kept.

    Raises
    ------
    NotAVault
        There is none.
    KeyUnavailable, WrongPassphrase
        No slot opens.
    RollbackDetected
        It is older than what was last seen.
    """
    place = place_of(path)
    store = store_at(place)
    settings, text = read_settings(store)
    given = checkpoint if checkpoint is not None else given_checkpoint()
    vouched = bool(given or fingerprint or Pins().load(settings.vault_id))
    chosen = ChosenCatalog(settings.catalog, settings.vault_id)
    objects = chosen.locked(store)
    providers = ways.providers(settings.vault_id, vouched=vouched)
    try:
        keys = KeyRing.open(objects, settings.vault_id, text, providers, fingerprint=fingerprint)
    except (KeyUnavailable, MissingExtra):
        if ways.passphrase is not None or not _has_terminal() or not _wants_passphrase(objects):
            raise
        # First: a key service that is down was waited for already.
        providers.insert(0, PassphraseProvider(getpass.getpass("passphrase of the vault: ")))
        keys = KeyRing.open(objects, settings.vault_id, text, providers, fingerprint=fingerprint)
    log = AuditLog.open(objects, keys)
    writable = not received and is_writable(store, network=chosen.anywhere)
    audit = log if writable else side_log(keys)
    tags = vault_tags(store)
    with ExitStack() as opened:
        open_catalog = chosen.unopened if anew else chosen.open
        catalog = open_catalog(objects, keys, tags, read_only=not writable)
        opened.callback(catalog.close)
        resources = _resources(settings, objects, keys, catalog, audit, tags, purpose, who)
        resources = replace(resources, log=log, read_only=not writable, vouched=vouched, received=received)
        opened.callback(resources.pool.close)
        if accept:
            require_writable(resources)
            accept_restore(Pins(), settings.vault_id, log, keys.number, who=resources.who)
        elif anew:
            check_pin(Pins(), settings.vault_id, log, keys.number, given=given)
        else:
            _check_newest(resources, given)
        if not anew:
            audit.append([_event(resources, Kind.VAULT_OPENED)])
        opened.pop_all()
    return resources


def _check_newest(resources: Resources, given: str | None) -> None:
    try:
        _compare(resources, given)
    except RollbackDetected:
        # Another process may have written between two readings; what was put back stays behind.
        _compare(resources, given)


def _compare(resources: Resources, given: str | None) -> None:
    keys, log = resources.keys, resources.log
    keys.refresh()
    pins = None if resources.received else Pins()
    check_pin(pins, resources.settings.vault_id, log, keys.number, given=given)
    keys.refresh()
    check_heads(log, {"record_number": keys.number, "snapshot": resources.catalog.head().snapshot})
    check_newest_pack(resources)


def close_vault(resources: Resources) -> None:
    """Let go of what a vault holds, its keys last, and keep in mind how far its log had come."""
    if resources.keys.closed:
        return
    try:
        if not resources.received:
            remember(Pins(), resources.settings.vault_id, resources.log, resources.keys.number)
    finally:
        resources.catalog.close()
        resources.pool.close()
        resources.keys.close()


def key_file_warnings(place: Place, key_file: str | os.PathLike[str] | None, vault_id: str) -> list[str]:
    """Say so when the key file lies on the vault's disk: that protects from nobody who takes both."""
    path = Path(key_file or default_key_file(vault_id)).expanduser()
    if isinstance(place, str) or not path.exists() or path.stat().st_dev != place.stat().st_dev:
        return []
    return [
        "key file and vault are on one disk: whoever takes both reads everything; move the key file to "
        "another device, or add a passphrase (`voxelvault keys add passphrase`) and remove the file"
    ]


def read_settings(store: ObjectStore) -> tuple[Settings, bytes]:
    """Return what a vault's public description says, and its bytes.

    Raises
    ------
    NotAVault, NoPermission, NewerFormat, OlderFormat, IntegrityError
        There is none, it may not be read, it is newer or older than this version, or it is damaged.
    StorageError
        The disk or the object storage fails.
    """
    try:
        text = store.get(VAULT_TOML)
    except ObjectMissing:
        raise NotAVault("there is no vault at this place; `voxelvault init PATH` makes one") from None
    except NoPermission:
        raise NoPermission("this vault may not be read; ask its owner for access to it") from None
    try:
        found = tomllib.loads(text.decode())
        if found["format"] > LAYOUT:
            raise NewerFormat("this vault was written by a newer version; update voxelvault")
        if found["format"] < LAYOUT:
            raise OlderFormat(
                "this vault was made before the first release; export its files with the version that"
                " made it, and ingest them into a new vault"
            )
        settings = Settings(**found)
        # Before anything is looked up by it.
        if not re.fullmatch(r"[0-9a-f]{32}", settings.vault_id):
            raise ValueError
        return settings, text
    except (ValueError, KeyError, TypeError):
        raise IntegrityError("vault.toml is damaged; restore it from a copy") from None


def vault_tags(store: ObjectStore) -> Tags:
    """Return the vault's tag list: the shipped one, and what the site added by `reindex`."""
    try:
        return _tags_of(store.get(TAGS))
    except ObjectMissing:
        return load_tags(None)


def _tags_of(stored: bytes) -> Tags:
    try:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / TAGS
            copy.write_bytes(stored)
            return load_tags(copy)
    except OSError as error:
        raise disk_error(error) from None


def adopt_tags(resources: Resources, tags_file: Path) -> Resources:
    """Make a site's tag list the vault's; return the vault's parts with a catalog that has its columns.

    Raises
    ------
    PolicyDenied, NoPermission, NetworkFileSystem
        The vault may not be changed, or not here.
    UsageError
        The list names an unknown attribute, table or type; nothing was changed.
    AuditError
        It could not be logged; then nothing was changed.
    """
    require(resources.policy, Request(Kind.CATALOG_CHANGED, (), resources.purpose, resources.who))
    require_writable(resources)
    tags, stored = _read_tags(tags_file)
    resources.audit.append([_tags_event(resources)])
    resources.objects.replace(TAGS, stored)
    resources.catalog.close()
    chosen = ChosenCatalog(resources.settings.catalog, resources.settings.vault_id)
    catalog = chosen.open(resources.objects, resources.keys, tags)
    return replace(resources, tags=tags, catalog=catalog)


def _read_tags(tags_file: Path) -> tuple[Tags, bytes]:
    """Return a tag list and its bytes, read once: what is parsed is what will be stored."""
    try:
        stored = tags_file.read_bytes()
    except OSError:
        raise UsageError("the tag list can't be read; check its path and who may read it") from None
    return _tags_of(stored), stored


def _tags_event(resources: Resources) -> Event:
    return Event(
        kind=Kind.CATALOG_CHANGED,
        who=resources.who,
        purpose=resources.purpose,
        codes={"mode": ("tags",)},
    )


def _toml(settings: Settings) -> bytes:
    if not re.fullmatch(r"[A-Za-z0-9 _.-]*", settings.residency):
        raise UsageError("a residency region is letters, digits, spaces, dots and dashes")
    lines = (
        f"format = {settings.format}",
        f'vault_id = "{settings.vault_id}"',
        f'objects = "{settings.objects}"',
        f'catalog = "{settings.catalog}"',
        f'codec = "{settings.codec}"',
        f'residency = "{settings.residency}"',
    )
    return ("\n".join(lines) + "\n").encode()


def _resources(
    settings: Settings,
    objects: ObjectStore,
    keys: KeyRing,
    catalog: Catalog,
    audit: AuditLog,
    tags: Tags,
    purpose: str | None,
    who: str | None,
) -> Resources:
    return Resources(
        settings,
        objects,
        keys,
        SealedObjects(objects, settings.vault_id),
        catalog,
        audit,
        audit,
        OwnerPolicy(),
        DecoderPool(),
        tags,
        who or _who(),
        purpose,
    )


def _who() -> str:
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = f"uid-{os.getuid()}"
    return re.sub(r"[^A-Za-z0-9_.:@/=,+-]", "_", name) or "unknown"


def _event(resources: Resources, kind: Kind) -> Event:
    keys, head = resources.keys, resources.catalog.head()
    return Event(
        kind=kind,
        who=resources.who,
        purpose=resources.purpose,
        counts={
            "generation": keys.generation,
            "record_number": keys.number,
            "snapshot": head.snapshot,
        },
        digests={"record": keys.record_digest, "catalog": head.digest},
    )


def _has_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def _wants_passphrase(objects: ObjectStore) -> bool:
    # Unproven: it decides about a prompt, no more.
    slots = parse(objects.get(RECORD)).record.slots
    return any(slot.provider == PassphraseProvider.name for slot in slots)
