"""A disk that is really full, or turned read-only: one clear line, an intact vault, and on it goes."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from flow_support import open_again, rows
from lives import Life, Scene, held, nothing_left, repaired, scenes

from voxelvault.errors import AuditError, NoPermission, NoSpace, VoxelVaultError
from voxelvault.intake import ingest
from voxelvault.vault import Vault

__all__ = ["scenes"]  # a fixture

KIB = 1024


def mounted(place: Path, options: str) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    return not os.geteuid() and not subprocess.run(command, capture_output=True, check=False).returncode


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of a few megabytes."""
    place = tmp_path / "small"
    place.mkdir()
    if not mounted(place, "size=12m"):
        pytest.skip("mounting needs root; a refused write is tested with an injected errno")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=False)


@contextmanager
def full(place: Path, left: int) -> Iterator[None]:
    """Leave so many bytes of a disk free."""
    ballast = place / "ballast"
    size = shutil.disk_usage(place).free - left
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)
    try:
        yield
    finally:
        ballast.unlink()


def one_line(error: BaseException, *planted: str) -> None:
    """The message and all that is chained to it are ours, one line each, and name no place."""
    chained: BaseException | None = error
    while chained is not None:
        assert isinstance(chained, VoxelVaultError), repr(chained)
        assert "\n" not in str(chained)
        assert not any(word in str(chained) for word in planted), str(chained)
        chained = chained.__cause__ or (None if chained.__suppress_context__ else chained.__context__)


def cached(vault: Vault) -> None:
    vault.select("Modality = 'CT'").cache_frames("raw", progress=False)


def refused(life: Life, left: int, again: Callable[[Vault], object]) -> bool:
    """Do it with so little room; tell whether it was refused, and see that it was so with one clear line."""
    with open_again(life.path) as vault, full(life.path.parents[1], left):
        before, error = held(vault), refusal(vault, again)
        assert before <= held(vault)
    if error is None:
        return False
    assert isinstance(error, NoSpace) or "free some space" in str(error) or "--repair" in str(error), error
    one_line(error, str(life.path), "P0", "P1", "Doe")
    return True


def refusal(vault: Vault, again: Callable[[Vault], object]) -> VoxelVaultError | None:
    try:
        again(vault)
    except VoxelVaultError as error:
        return error
    return None


def survives(
    scene: Scene,
    small: Path,
    patch: pytest.MonkeyPatch,
    rooms: list[int],
    again: Callable[[Vault], object] | None = None,
) -> int:
    """Return how often it was refused; at the end, with room, it is done and whole."""
    life = Life.begin(scene, small / "life", patch)
    times = sum(refused(life, left, again or scene.again) for left in rooms)
    with open_again(life.path) as vault:
        nothing_left(repaired(vault, quick=True))
        if again:
            again(vault)
    life.check([])
    return times


def test_no_room_for_an_ingest(
    scenes: dict[str, Scene], small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert survives(scenes["ingest"], small, monkeypatch, [0, 60 * KIB]) == 2


def test_no_room_for_a_copy(scenes: dict[str, Scene], small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert survives(scenes["reindex"], small, monkeypatch, [24 * KIB], cached) == 1


@pytest.mark.long
@pytest.mark.parametrize("verb", ["ingest", "compact", "reindex", "rotate", "merge", "cache"])
def test_no_room_for_anything(
    scenes: dict[str, Scene], small: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """From no room at all, in steps of one page at first, to enough."""
    rooms = [0, *(KIB << n for n in range(2, 10)), *(KIB * n for n in range(12, 100, 8))]
    again = cached if verb == "cache" else None
    times = survives(scenes["reindex" if again else verb], small, monkeypatch, rooms, again)
    print(f"{verb}: refused {times} times")
    assert times > 1


def test_a_disk_turned_read_only_in_the_middle(
    scenes: dict[str, Scene], small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = scenes["ingest"]
    life = Life.begin(scene, small / "life", monkeypatch)
    with monkeypatch.context() as patch, open_again(life.path) as vault:
        commit = ingest.commit_batch

        def turned(*arguments: object) -> object:
            subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
            return commit(*arguments)  # type: ignore[arg-type]

        patch.setattr(ingest, "commit_batch", turned)
        with pytest.raises((NoPermission, AuditError), match="read-only") as caught:
            scene.again(vault)
        one_line(caught.value, str(life.path), "P0", "P1", "Doe")
        assert not rows(vault, "select 1 from instances")
        subprocess.run(["mount", "-o", "remount,rw", str(small)], check=True)
    life.check([])
