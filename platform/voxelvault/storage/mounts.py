"""Is this folder on a local disk? Embedded writing depends on flock and fsync that mean it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from voxelvault.errors import NetworkFileSystem

_NETWORK = frozenset(
    "nfs nfs4 cifs smb smb2 smb3 smbfs ncpfs afs coda 9p ceph lustre gpfs beegfs pvfs2 orangefs glusterfs "
    "ocfs2 gfs2 acfs panfs wekafs davfs vboxsf prl_fs vmhgfs afpfs webdav".split()
)
_LOCAL_FUSE = frozenset(
    "fuseblk fuse.fuse-overlayfs fuse.bindfs fuse.lxcfs fuse.mergerfs fuse.gocryptfs".split()
)
_ESCAPE = re.compile(r"\\([0-7]{3})")


def is_network_fs(path: str | os.PathLike[str], mountinfo: Iterable[str] | None = None) -> bool:
    """Say whether a path lies on a file system served over a network.

    Parameters
    ----------
    path : path-like
        It need not exist yet.
    mountinfo : iterable of str, optional
        Lines in the format of `/proc/self/mountinfo`; read from there by default. Where the system
        has none (macOS), the answer is False.

    References
    ----------
    proc_pid_mountinfo(5).
    """
    kind = file_system_type(path, _mounts() if mountinfo is None else mountinfo)
    # FUSE file systems are remote (sshfs, s3fs, rclone) but for a few known ones.
    return kind in _NETWORK or (kind.startswith("fuse.") and kind not in _LOCAL_FUSE)


def file_system_type(path: str | os.PathLike[str], mountinfo: Iterable[str]) -> str:
    """Return the type of the file system that holds the path, `""` when no mount is its parent."""
    place = Path(os.path.realpath(path))
    depth, kind = -1, ""
    for line in mountinfo:
        left, _, right = line.partition(" - ")
        point = Path(_ESCAPE.sub(lambda m: chr(int(m[1], 8)), left.split(" ")[4]))
        # The later of two mounts on one point hides the earlier.
        if place.is_relative_to(point) and len(point.parts) >= depth:
            depth, kind = len(point.parts), right.split(" ")[0]
    return kind


def require_local(path: str | os.PathLike[str]) -> None:
    """Refuse a network file system for embedded writing.

    Raises
    ------
    NetworkFileSystem
        The path lies on one.
    """
    if is_network_fs(path):
        raise NetworkFileSystem(
            "the vault lies on a network file system, where locks and fsync can't be trusted for writing: "
            "move it to a local disk, or make it with its catalog in PostgreSQL (`init --catalog "
            "postgresql://…`, docs/guide/team.md), whose locks hold anywhere; reading works from here"
        )


def _mounts() -> list[str]:
    try:
        return Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return []


__all__ = ["file_system_type", "is_network_fs", "require_local"]
