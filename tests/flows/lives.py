"""A vault that something is done to, and what must hold of it however that ends."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from flow_support import counts, digest, open_again, person_file, rows, settled, write

import voxelvault as vv
from voxelvault.testing.synthetic import hostile
from voxelvault.upkeep.keys import rotate
from voxelvault.upkeep.verify import VerifyOptions, VerifyReport, verify
from voxelvault.vault import Vault

VERBS = ("ingest", "compact", "reindex", "rotate", "merge")


@dataclass(frozen=True)
class Scene:
    """A vault that something is about to be done to, and how it is told that it was done.

    Attributes
    ----------
    home : Path
        Folder with `vault`, `config` and, for the ingest, `in`.
    before, after : list of str
        SHA-256 of the files that it has before, and after.
    given : str
        What the work is given.
    done : callable
        Tells of a vault whether the work is done.
    again : callable
        Does it, or what is left of it.
    """

    home: Path
    before: list[str]
    after: list[str]
    given: str
    done: Callable[[Vault], bool]
    again: Callable[[Vault], object]


@pytest.fixture(scope="session")
def scenes(pattern: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scene]:
    """Give what each work begins with: an empty vault and files, or one that was filled bit by bit."""
    fresh = _files(tmp_path_factory.mktemp("fresh"), pattern)
    home = _files(tmp_path_factory.mktemp("filled"), pattern)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXELVAULT_CONFIG_HOME", str(home / "config"))
        with vv.open(home / "vault") as vault:
            for path in sorted((home / "in").iterdir()):
                vault.ingest(path, progress=False)
            one, into = [row["subject_id"] for row in rows(vault, "select subject_id from patients")]
    good = sorted(digest(data) for data in _good())
    packs = len({(n // 3, n % 3 // 2) for n in range(6)})

    def merged(vault: Vault) -> bool:
        return bool(rows(vault, f"select 1 from patients where merged_into = '{into}'"))

    def merge(vault: Vault) -> None:
        if not merged(vault):
            vault.merge_subjects(one, into)

    def compacted(vault: Vault) -> bool:
        return counts(vault, "packs") == (packs,)

    return {
        "ingest": Scene(
            fresh,
            [],
            good,
            str(fresh / "in"),
            lambda vault: counts(vault, "instances", "quarantine") == (len(good), 1),
            lambda vault: vault.ingest(fresh / "in", progress=False),
        ),
        "compact": Scene(home, good, good, "", compacted, lambda vault: vault.compact(progress=False)),
        "reindex": Scene(home, good, good, "", lambda vault: True, lambda vault: vault.reindex()),
        "rotate": Scene(
            home,
            good,
            good,
            "",
            lambda vault: vault.resources.keys.generation > 1,
            lambda vault: rotate(vault.resources),
        ),
        "merge": Scene(home, good, good, f"{one} {into}", merged, merge),
    }


def _good() -> list[bytes]:
    """Return two people's files of one study: two images of one series and one of another, for each."""
    return [
        person_file(f"P{n // 3}", study=1, series=10 * (n // 3) + n % 3 // 2, instance=n, pixel=n)
        for n in range(6)
    ]


def _files(home: Path, pattern: Path) -> Path:
    shutil.copytree(pattern / "vault", home / "vault")
    shutil.copytree(pattern / "config", home / "config")
    write(home / "in", [*_good(), hostile()["nested 10,000 deep"]])
    return home


def repaired(vault: Vault, quick: bool) -> VerifyReport:
    return verify(vault.resources, VerifyOptions(quick=quick, repair=True, grace=0, readers=0))


def nothing_left(report: VerifyReport) -> None:
    assert report.ok, report.failures
    assert (report.orphans, report.unfinished, report.retired) == (0, 0, 0)


def held(vault: Vault) -> Counter[str]:
    """Return the SHA-256 of each file that the vault has, and how often."""
    return Counter(row["sha256"] for row in rows(vault, "select sha256 from instances"))


def left_over(path: Path) -> list[str]:
    """Return the files that no work should leave behind."""
    return [
        str(found.relative_to(path))
        for found in path.rglob("*")
        if found.name.startswith(".tmp-") or found.name.startswith("lake.duckdb.")
    ]


class Life:
    """One copy of a scene that is killed, looked at, and brought to its end."""

    def __init__(self, scene: Scene, path: Path) -> None:
        self.scene, self.path = scene, path

    @classmethod
    def begin(cls, scene: Scene, place: Path, patch: pytest.MonkeyPatch) -> Life:
        """Copy a scene to a place of its own."""
        return cls(scene, settled(scene.home, place, patch))

    def check(self, told: list[str]) -> None:
        """After a kill: what was there or told is there, once; a repair leaves nothing; then it is done.

        Whole at the end: `verify` makes every file again from its parts and compares its SHA-256.
        """
        done = "done" in told
        there = set(self.scene.before) | set(told) - {"done"}
        with open_again(self.path) as vault:
            found = held(vault)
            assert there <= found.keys() <= set(self.scene.after)
            assert set(found.values()) <= {1}
            assert self.scene.done(vault) or not done
            nothing_left(repaired(vault, quick=True))
            self.scene.again(vault)
            assert self.scene.done(vault)
            assert held(vault) == Counter(self.scene.after)
            nothing_left(repaired(vault, quick=False))
        assert left_over(self.path) == []
