from __future__ import annotations

from pathlib import Path

import pytest

from voxelvault.errors import NetworkFileSystem
from voxelvault.storage import mounts
from voxelvault.storage.mounts import file_system_type, is_network_fs, require_local

MOUNTS = r"""
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 27 0:44 / /home rw,relatime - nfs4 server:/home rw,vers=4.2
41 40 0:45 / /home/local rw,relatime shared:5 master:2 - xfs /dev/sdb rw
42 27 0:46 / /mnt/two\040words rw - cifs //server/share rw
43 27 0:47 / /mnt/sshfs rw - fuse.sshfs me@there:/data rw
44 27 0:48 / /mnt/usb rw - fuseblk /dev/sdc1 rw
45 27 0:49 / /mnt/over rw - ext4 /dev/sdd rw
46 27 0:50 / /mnt/over rw - nfs server:/over rw
47 27 0:51 / /mnt/unheard rw - fuse.some-bucket bucket rw
48 27 0:52 / /host rw - 9p host rw
49 27 0:53 / /scratch rw - lustre mgs@tcp:/scratch rw
""".strip().splitlines()


@pytest.mark.parametrize(
    ("path", "kind", "network"),
    [
        ("/var/vault", "ext4", False),
        ("/home/someone/vault", "nfs4", True),
        ("/homes/vault", "ext4", False),
        ("/home/local/vault", "xfs", False),
        ("/mnt/two words/vault", "cifs", True),
        ("/mnt/sshfs", "fuse.sshfs", True),
        ("/mnt/usb/vault", "fuseblk", False),
        ("/mnt/over/vault", "nfs", True),
        ("/mnt/unheard/vault", "fuse.some-bucket", True),
        ("/host/vault", "9p", True),
        ("/scratch/not/made/yet", "lustre", True),
    ],
)
def test_the_nearest_mount_decides(path: str, kind: str, network: bool) -> None:
    assert file_system_type(path, MOUNTS) == kind
    assert is_network_fs(path, MOUNTS) is network


def test_a_link_into_a_network_home(tmp_path: Path) -> None:
    (tmp_path / "vault").symlink_to("/home/someone")
    assert is_network_fs(tmp_path / "vault", MOUNTS)


def test_without_a_mount_table_everything_is_local() -> None:
    assert not is_network_fs("/anything", [])


def test_this_machine_answers(tmp_path: Path) -> None:
    if Path("/proc/self/mountinfo").exists():
        assert file_system_type(tmp_path, mounts._mounts())


def test_writing_there_is_refused_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "_mounts", lambda: MOUNTS)
    require_local("/var/vault")
    with pytest.raises(NetworkFileSystem, match="PostgreSQL") as caught:
        require_local("/home/someone/vault")
    assert "someone" not in str(caught.value)
