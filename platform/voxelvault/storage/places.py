"""Where a vault is: a folder, or a URL of object storage; and the store that is there.

`s3://bucket/prefix` is configured as other programs for Amazon S3 are, by the environment
(`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ENDPOINT_URL`,
`AWS_PROFILE`, web identity, instance roles). `gs://` and `az://` go the same way with the variables
of their own, and are not tested.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from voxelvault.errors import MissingExtra, UsageError
from voxelvault.model import ObjectStore
from voxelvault.storage.objects import LocalObjects

Place = Path | str
"""A folder as an absolute path, or a URL."""

REMOTE = ("s3", "gs", "az")

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.IGNORECASE | re.DOTALL)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}(/[A-Za-z0-9._-]+)*")
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")

_CONNECT, _SILENCE, _WHOLE, _RETRIES = (timedelta(seconds=s) for s in (5, 60, 300, 30))


def place_of(where: str | os.PathLike[str]) -> Place:
    """Return what a user named as a place.

    Raises
    ------
    UsageError
        A URL of an unknown kind, or without a bucket.
    """
    found = _URL.fullmatch(os.fspath(where))
    if found is None:
        return Path(where).expanduser().absolute()
    scheme, rest = found[1].lower(), found[2].rstrip("/")
    if scheme == "file":
        return Path(unquote(urlsplit(os.fspath(where)).path)).absolute()
    if scheme not in REMOTE:
        raise UsageError(f"a vault lies in a folder or at {', '.join(f'{s}://' for s in REMOTE)}: correct it")
    if not _BUCKET.fullmatch(rest) or ".." in rest:
        raise UsageError(f"name bucket and folder, as in {scheme}://bucket/vault")
    return f"{scheme}://{rest}"


def store_at(place: Place, config: Mapping[str, str] | None = None) -> ObjectStore:
    """Return the object store at a place; nothing is asked of it yet.

    Parameters
    ----------
    place : Path or str
        As `place_of` returned it.
    config : mapping, optional
        What is not secret of the configuration, as `public_config` gave it in another process.

    Raises
    ------
    UsageError
        The endpoint is plain http, to another host, and nobody said that this is meant.
    MissingExtra
        A profile is named, and boto3, which reads those, is not installed.
    """
    if isinstance(place, Path):
        return LocalObjects(place)
    # Only here: a vault in a folder needs none of it.
    from obstore.store import AzureStore, GCSStore, S3Store

    from voxelvault.storage.remote_objects import ObstoreObjects

    kinds: dict[str, Any] = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}
    limits: dict[str, Any] = {"connect_timeout": _CONNECT, "read_timeout": _SILENCE, "timeout": _WHOLE}
    options: dict[str, Any] = {"retry_config": {"max_retries": 8, "retry_timeout": _RETRIES}}
    if place.startswith("s3://"):
        known = public_config(place) | dict(config or {})
        limits["allow_http"] = _plain_http(known.get("endpoint", ""))
        options |= known | _profile()
    store = kinds[place.partition(":")[0]].from_url(place, client_options=limits, **options)
    return ObstoreObjects(store, place)


def kind_of(place: Place) -> str:
    """Return what vault.toml calls a kind of place: `local`, or the scheme of its URL."""
    return "local" if isinstance(place, Path) else place.partition(":")[0]


def require_conditions(store: ObjectStore) -> None:
    """Prove that a store in object storage heeds conditional requests; others have locks.

    Raises
    ------
    NoPermission
        Nothing may be written there.
    StorageError
        It ignores them.
    """
    probe = getattr(store, "require_conditions", None)
    if probe is not None:
        probe()


def public_config(place: Place) -> dict[str, str]:
    """Return what this process knows of a place's configuration and is no secret: endpoint and region."""
    if not isinstance(place, str) or not place.startswith("s3://"):
        return {}
    found = {"endpoint": _first(_ENDPOINTS), "region": _first(_REGIONS)}
    return {key: value for key, value in found.items() if value}


def _first(names: tuple[str, ...]) -> str:
    return next((value for name in names if (value := os.environ.get(name))), "")


def _plain_http(endpoint: str) -> bool:
    """Say whether the endpoint may be, and is, spoken to without TLS."""
    parts = urlsplit(endpoint)
    if parts.scheme != "http":
        return False
    if os.environ.get("AWS_ALLOW_HTTP", "").lower() == "true" or _is_loopback(parts.hostname or ""):
        return True
    raise UsageError(
        "the object storage's endpoint is plain http, so anybody on the way could change what is read: "
        "use https, or set AWS_ALLOW_HTTP=true if that is meant"
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _profile() -> dict[str, Any]:
    """Return credentials from a profile of the AWS configuration, if one is named and no key is given."""
    if not os.environ.get("AWS_PROFILE") or os.environ.get("AWS_ACCESS_KEY_ID"):
        return {}
    try:
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        raise MissingExtra(
            "AWS_PROFILE is read by boto3: pip install 'voxelvault[aws]', or set AWS_ACCESS_KEY_ID"
        ) from None
    return {"credential_provider": Boto3CredentialProvider()}


__all__ = ["REMOTE", "Place", "kind_of", "place_of", "public_config", "require_conditions", "store_at"]
