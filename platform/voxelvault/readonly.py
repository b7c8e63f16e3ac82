"""A vault in a place that can't be written: read with a log of one's own, or not at all.

No entry, no read: where the vault's own log cannot grow, entries go to a side log in the user's
configuration, sealed and signed under the vault's keys. A setting of the signed vault record,
`read_only_log`, says whether that is enough (`side`, the default) or reading is refused (`refuse`).
"""

from __future__ import annotations

import os
import re
import socket

from voxelvault.audit.log import AuditLog
from voxelvault.catalog.choosing import EMBEDDED
from voxelvault.config import config_home
from voxelvault.crypto.keyring import KeyRing
from voxelvault.errors import NoPermission
from voxelvault.model import ObjectStore
from voxelvault.resources import Resources
from voxelvault.storage.mounts import is_network_fs, require_local
from voxelvault.storage.objects import LocalObjects
from voxelvault.storage.places import require_conditions

SETTING = "read_only_log"


def is_writable(store: ObjectStore, *, network: bool = False) -> bool:
    """Tell whether a vault may be written: a local disk, mounted and permitted for writing, or a bucket.

    Parameters
    ----------
    store : ObjectStore
        The vault's.
    network : bool
        The vault's locks are elsewhere, so it may lie on a network file system.

    Raises
    ------
    StorageError
        A server of object storage ignores conditional writes, or does not answer.
    """
    if not isinstance(store, LocalObjects):
        try:
            require_conditions(store)
        except NoPermission:
            return False
        return True
    root = store.root
    read_only = bool(os.statvfs(root).f_flag & os.ST_RDONLY)
    return not read_only and os.access(root, os.W_OK) and (network or not is_network_fs(root))


def side_log(keys: KeyRing) -> AuditLog:
    """Open this user's side log of a vault, or start it.

    Raises
    ------
    NoPermission
        The vault record says that reading without the vault's own log is refused.
    """
    if keys.settings.get(SETTING, "side") != "side":
        raise NoPermission(
            "this vault cannot be written here, and its record refuses reading without its own log; "
            "open it where it can be written"
        )
    place = config_home() / "side" / keys.vault_id
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    objects = LocalObjects(place)
    host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname()) or "host"
    origin = f"voxelvault/{keys.vault_id}/side/{host}"
    made = any(True for _ in objects.list("audit/"))
    start = AuditLog.open if made else AuditLog.create
    return start(objects, keys, origin=origin)


def require_writable(resources: Resources) -> None:
    """Refuse a verb that writes, where the vault can't be written.

    Raises
    ------
    NetworkFileSystem, NoPermission
        The message says what to do.
    """
    if not resources.read_only:
        return
    root = getattr(resources.objects, "root", None)
    if root is not None and resources.settings.catalog == EMBEDDED:
        require_local(root)
    raise NoPermission("this vault can be read here, not written; get write access to its folder")
