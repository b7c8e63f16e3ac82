"""What this package keeps for a user outside any vault: settings, key files, pins.

::

    $VOXELVAULT_CONFIG_HOME, else $XDG_CONFIG_HOME/voxelvault, else ~/.config/voxelvault
    ├── config.toml              vault = "…"   issuer = "…"   [sources] name = "folder"
    ├── keys/<vault id>.key      default place of a vault's private key file
    └── pins/<vault id>.json     the newest state of a vault that this user has seen

A pin lies where whoever writes to the vault's storage can't reach it: that is its point.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from voxelvault.errors import IntegrityError, NewerFormat, NoPermission, NoSpace, UsageError
from voxelvault.model import FORMAT


def config_home(environ: Mapping[str, str] = os.environ) -> Path:
    """Folder of the user's configuration; it need not exist."""
    if own := environ.get("VOXELVAULT_CONFIG_HOME"):
        return Path(own).expanduser().absolute()
    if xdg := environ.get("XDG_CONFIG_HOME"):
        return Path(xdg).absolute() / "voxelvault"
    return Path("~/.config/voxelvault").expanduser()


def default_key_file(vault_id: str, home: Path | None = None) -> Path:
    """Place of a vault's private key file unless another is named."""
    return (home or config_home()) / "keys" / f"{vault_id}.key"


@dataclass(frozen=True, slots=True)
class Settings:
    """The user's `config.toml`.

    Parameters
    ----------
    vault : str, optional
        Vault to use when none is named.
    issuer : str, optional
        Issuer of the patient ids of files that name none.
    sources : mapping of str to Path
        Folders by name; the name is the issuer of what lies below.
    """

    vault: str | None = None
    issuer: str | None = None
    sources: Mapping[str, Path] = field(default_factory=dict)

    def issuer_of(self, path: Path) -> str | None:
        """Return the name of the innermost source that holds `path`, else the default issuer."""
        path = path.absolute()
        holding = [(len(folder.parts), name) for name, folder in self.sources.items() if _holds(folder, path)]
        return max(holding)[1] if holding else self.issuer


def _holds(folder: Path, path: Path) -> bool:
    return path.is_relative_to(folder) or path.resolve().is_relative_to(folder.resolve())


def load_settings(home: Path | None = None) -> Settings:
    """Read `config.toml`.

    Parameters
    ----------
    home : Path, optional
        Configuration folder.

    Returns
    -------
    Settings
        All empty when there is no such file.

    Raises
    ------
    UsageError
        The file is no TOML, or says something unknown.
    """
    try:
        document = tomllib.loads(((home or config_home()) / "config.toml").read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return Settings()
    except PermissionError:
        raise NoPermission(
            "config.toml can't be read: make it readable, or set VOXELVAULT_CONFIG_HOME"
        ) from None
    except ValueError as error:
        raise UsageError(f"config.toml is not valid TOML: correct it ({error})") from None
    return _settings(document)


def _settings(document: dict[str, Any]) -> Settings:
    unknown = sorted(document.keys() - {"vault", "issuer", "sources"})
    if unknown:
        raise UsageError(f"config.toml knows vault, issuer and sources, not {', '.join(unknown)}: remove it")
    sources = document.pop("sources", {})
    if not isinstance(sources, dict) or not all(
        isinstance(v, str) for v in [*document.values(), *sources.values()]
    ):
        raise UsageError("config.toml holds texts and a table [sources] of texts: put values in quotes")
    folders = {name: Path(folder).expanduser().absolute() for name, folder in sources.items()}
    return Settings(document.get("vault"), document.get("issuer"), folders)


def default_vault(environ: Mapping[str, str] = os.environ) -> str | None:
    """Vault to use when none is named: `VOXELVAULT`, else the one in `config.toml`."""
    return environ.get("VOXELVAULT") or load_settings(config_home(environ)).vault


def given_checkpoint(environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the checkpoint in the file that `VOXELVAULT_CHECKPOINT` names, if it is set.

    Raises
    ------
    UsageError
        There is no such file: a check that was asked for is never left out.
    """
    if not (name := environ.get("VOXELVAULT_CHECKPOINT")):
        return None
    try:
        return Path(name).expanduser().read_text("utf-8")
    except (OSError, ValueError):
        raise UsageError("VOXELVAULT_CHECKPOINT names no readable file: correct or unset it") from None


@dataclass(frozen=True, slots=True)
class Pin:
    """The newest state of a vault that this user has seen.

    Parameters
    ----------
    size : int
        Entries in its audit log.
    checkpoint : str
        The log's signed checkpoint at that size.
    record_number : int
        Number of its vault record.
    """

    size: int
    checkpoint: str
    record_number: int


class Pins:
    """The pins of one user, a small file for each vault.

    Parameters
    ----------
    home : Path, optional
        Configuration folder.
    """

    def __init__(self, home: Path | None = None) -> None:
        self._folder = (home or config_home()) / "pins"

    def load(self, vault_id: str) -> Pin | None:
        """Return a vault's pin.

        Parameters
        ----------
        vault_id : str
            32 hexadecimal digits.

        Returns
        -------
        Pin or None
            None when this user has never seen the vault.

        Raises
        ------
        IntegrityError
            The file is damaged.
        NewerFormat
            A newer version wrote it.
        """
        with _errors():
            try:
                text = self._path(vault_id).read_text("utf-8")
            except FileNotFoundError:
                return None
        return _parse_pin(text)

    def save(self, vault_id: str, pin: Pin, *, go_back: bool = False) -> Pin:
        """Keep what was seen; atomic, durable, readable by the user alone.

        Parameters
        ----------
        vault_id : str
            32 hexadecimal digits.
        pin : Pin
            A state whose proofs were checked.
        go_back : bool
            Take it even if it is older than the one that is kept: a restore was accepted.

        Returns
        -------
        Pin
            What is kept now: of log and record the newer ones.

        Raises
        ------
        NoPermission, NoSpace
            The configuration can't be written.
        """
        with _errors(), self._locked(vault_id):
            kept = None if go_back else self.load(vault_id)
            if kept is not None:
                newer = pin if pin.size >= kept.size else kept
                pin = Pin(newer.size, newer.checkpoint, max(pin.record_number, kept.record_number))
            if pin != kept:
                text = json.dumps({"format": FORMAT, **asdict(pin)}, sort_keys=True, ensure_ascii=False)
                _replace(self._path(vault_id), f"{text}\n".encode())
        return pin

    def forget(self, vault_id: str) -> None:
        """Drop the pin of a vault that is no more."""
        with _errors():
            for ending in ("json", "lock"):
                (self._folder / f"{vault_id}.{ending}").unlink(missing_ok=True)

    def _path(self, vault_id: str) -> Path:
        return self._folder / f"{vault_id}.json"

    @contextmanager
    def _locked(self, vault_id: str) -> Iterator[None]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(self._folder / f"{vault_id}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)


def _parse_pin(text: str) -> Pin:
    try:
        document = json.loads(text)
        if document.pop("format") > FORMAT:
            raise NewerFormat("the pin of this vault was written by a newer version; update voxelvault")
        pin = Pin(**document)
        if (type(pin.size), type(pin.checkpoint), type(pin.record_number)) != (int, str, int):
            raise ValueError
        return pin
    except (ValueError, KeyError, TypeError, AttributeError):
        raise IntegrityError(
            "the pin of this vault is damaged: check the vault with `audit verify --against` a checkpoint "
            "that was kept, then delete the pin"
        ) from None


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except PermissionError:
        raise NoPermission(
            "the configuration can't be used: set VOXELVAULT_CONFIG_HOME to your own folder"
        ) from None
    except OSError as error:
        raise NoSpace(
            f"the configuration can't be written ({os.strerror(error.errno or 0)}): free some space, or set "
            "VOXELVAULT_CONFIG_HOME to another disk"
        ) from None
