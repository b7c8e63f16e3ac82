"""A release whose run was killed, at any step: the next run ends it, whole and with nothing beside it."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import pytest

import voxelvault as vv
from voxelvault.errors import IntegrityError, LockTimeout, NoSpace, UsageError
from voxelvault.releasing import places
from voxelvault.releasing.deidentify import Rules, release_as
from voxelvault.releasing.originals import FolderOriginals
from voxelvault.releasing.places import FolderPlace
from voxelvault.releasing.progress import Progress
from voxelvault.releasing.projects import Using, create, using
from voxelvault.releasing.proving import verify_folder, verify_vault
from voxelvault.testing import synthetic


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "config"))
    for number in range(2):
        put(tmp_path / "in" / str(number), number)
    return tmp_path


@pytest.fixture
def mine(home: Path) -> Using:
    create(home / "project")
    return using(home / "project")


def put(folder: Path, number: int, slices: int = 2) -> None:
    folder.mkdir(parents=True)
    for index, data in enumerate(synthetic.ct_series(slices, 16, 16, seed=number)):
        (folder / f"{index}.dcm").write_bytes(data)


def go(
    home: Path, mine: Using, form: str = "dicom", rules: Rules | None = None, issuer: str = ""
) -> dict[str, bytes]:
    originals = FolderOriginals(home / "in", issuer)
    release_as(originals, home / "out", rules or Rules(faces="keep"), mine, format=form)
    return files(home / "out")


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def is_whole(home: Path, form: str) -> bool:
    if form != "vault":
        return verify_folder(home / "out").ok
    with vv.open(home / "out") as release:
        return verify_vault(release.resources).ok


def killed(step: int, names: tuple[str, ...], work: Callable[[], object]) -> bool:
    """Do it in a child that is killed before its step-th call of these functions of `os`."""

    def child() -> None:
        left = step
        for name in names:
            whole = getattr(os, name)

            def counted(*given: object, _whole: Callable[..., object] = whole, **named: object) -> object:
                nonlocal left
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return _whole(*given, **named)

            setattr(os, name, counted)
        work()

    process = get_context("fork").Process(target=child)
    process.start()
    process.join(120)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def killed_anywhere(home: Path, mine: Using, form: str, stride: int) -> None:
    names = ("replace", "link", "rename", "unlink", "utime", "rmdir")
    step, out = 0, home / "out"
    while killed(step, names, lambda: go(home, mine, form)):
        try:
            go(home, mine, form)
        except UsageError:
            # A vault that has no name yet is deleted by hand; all else that is refused is whole.
            assert (form == "vault" and not (out / "vault.toml").exists()) or is_whole(home, form), step
        else:
            assert is_whole(home, form), step
        if form != "vault":
            assert not list(out.glob(".*")), step
            assert {path.stat().st_mtime for path in [out, *out.rglob("*")]} == {315532800}, step
        shutil.rmtree(out)
        step += stride
    assert step > stride
    assert is_whole(home, form)


@pytest.mark.parametrize(("form", "stride"), [("dicom", 5), ("vault", 53), ("parquet", 59)])
def test_killed_the_next_run_ends_it(home: Path, mine: Using, form: str, stride: int) -> None:
    killed_anywhere(home, mine, form, stride)


@pytest.mark.long
@pytest.mark.parametrize(("form", "stride"), [("dicom", 1), ("vault", 7), ("parquet", 7)])
def test_killed_anywhere_the_next_run_ends_it(home: Path, mine: Using, form: str, stride: int) -> None:
    killed_anywhere(home, mine, form, stride)


def test_what_was_moved_and_not_entered_does_not_stay_when_other_rules_come(
    home: Path, mine: Using, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*given: object) -> None:
        raise KeyboardInterrupt

    for form in ("dicom", "vault"):
        with monkeypatch.context() as patch:
            patch.setattr(Progress, "add", dies)
            with pytest.raises(KeyboardInterrupt):
                go(home, mine, form, Rules("basic", faces="keep"))
        if form == "vault":
            assert not (home / "out").exists()  # nothing of it was entered
            continue
        assert len(list((home / "out" / "DICOM").glob("*/*/*"))) == 2
        go(home, using(None), form, Rules(faces="deface"))
        assert verify_folder(home / "out").ok
        assert len(list((home / "out" / "DICOM").glob("*/*/*"))) == 4
        shutil.rmtree(home / "out")


@pytest.mark.parametrize("form", ["dicom", "vault", "parquet"])
def test_a_disk_that_is_full_at_the_end_is_no_end(
    home: Path, mine: Using, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = places.issue
    full = iter([False, True, True])

    def fills(*given: object, **named: object) -> object:
        if next(full, False):
            raise NoSpace("the disk is full")
        return whole(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(places, "issue", fills)
    for _ in range(2):
        with pytest.raises(NoSpace):
            go(home, mine, form)
    go(home, mine, form)
    assert is_whole(home, form)


@pytest.fixture
def half(home: Path, mine: Using) -> None:
    """Half a release: one of two studies."""
    from voxelvault.releasing import hands

    whole, calls = hands.release, iter(range(9))

    def stopping(*given: object) -> object:
        if next(calls) == 1:
            raise KeyboardInterrupt
        return whole(*given)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hands, "release", stopping)
        with pytest.raises(KeyboardInterrupt):
            go(home, mine)


@pytest.mark.usefixtures("half")
def test_a_source_that_lost_files_does_not_go_on(home: Path, mine: Using) -> None:
    for number in range(2):
        shutil.rmtree(home / "in" / str(number))
        put(home / "in" / f"{number}-new", number + 7)
    with pytest.raises(UsageError, match="no longer among"):
        go(home, mine)
    assert not (home / "out" / "receipts.jsonl").exists()


@pytest.mark.usefixtures("half")
def test_a_study_that_grew_does_not_go_on(home: Path, mine: Using) -> None:
    for number in range(2):
        shutil.rmtree(home / "in" / str(number))
        put(home / "in" / str(number), number, 3)
    for path in (home / "in").glob("*/2.dcm"):
        path.write_bytes(path.read_bytes())
    with pytest.raises(UsageError, match=r"more files than|no longer among"):
        go(home, mine)


@pytest.mark.usefixtures("half")
def test_another_issuer_or_version_does_not_go_on(
    home: Path, mine: Using, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="other rules"):
        go(home, mine, issuer="a hospital")
    monkeypatch.setattr("voxelvault.releasing.deidentify.version", lambda name: "99")
    with pytest.raises(UsageError, match="another version"):
        go(home, mine)


@pytest.mark.usefixtures("half")
def test_what_is_not_its_own_is_neither_signed_for_nor_deleted(home: Path, mine: Using) -> None:
    (home / "out" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="not its own"):
        go(home, mine)
    assert (home / "out" / "notes.txt").exists()


@pytest.mark.usefixtures("half")
def test_a_file_that_changed_since_is_not_signed_for(home: Path, mine: Using) -> None:
    path = next((home / "out" / "DICOM").glob("*/*/*"))
    path.write_bytes(path.read_bytes() + b"\0\0")
    with pytest.raises(IntegrityError, match="not those that were written"):
        go(home, mine)


def test_a_vault_that_is_no_release_is_left_alone(home: Path, mine: Using) -> None:
    """Nobody's de-identified files come into a vault of originals, the source itself least of all."""
    with vv.create(home / "vault") as vault:
        vault.ingest(home / "in", progress=False)
        before = vault.resources.log.size
        for out in (home / "vault", home / "vault" / "inside"):
            for form in ("vault", "dicom", "parquet"):
                with pytest.raises(UsageError, match="place"):
                    vault.select().deidentify(
                        out, faces="keep", format=form, project=home / "project", progress=False
                    )
        kinds = [one.kind for one in vault.resources.log.entries()][before:]
        assert set(kinds) == {"release.made"}
    with pytest.raises(UsageError, match="no unfinished"):
        release_as(FolderOriginals(home / "in"), home / "vault", Rules(faces="keep"), mine, format="vault")


def test_everything_in_a_folder_was_signed_for(home: Path, mine: Using) -> None:
    found = go(home, mine)
    out = home / "out"
    path = next(name for name in found if name.startswith("DICOM/"))

    def told() -> tuple[tuple[str, ...], tuple[str, ...]]:
        one = verify_folder(out)
        assert not one.ok
        return one.changed, one.extra

    (out / ".release").mkdir()
    assert told() == ((), (".release",))
    (out / ".release" / "more.dcm").write_bytes(b"more")
    assert told() == ((), (".release/more.dcm",))
    shutil.rmtree(out / ".release")
    (out / "Doe^John").symlink_to(home / "in")
    assert told() == ((), ("Doe^John",))
    (out / "Doe^John").unlink()
    os.mkfifo(out / "DICOM" / "pipe")
    assert told() == ((), ("DICOM/pipe",))
    (out / "DICOM" / "pipe").unlink()
    (out / path).unlink()
    (home / "same").write_bytes(found[path])
    (out / path).symlink_to(home / "same")
    assert told() == ((path,), ())
    (out / path).unlink()
    (out / path).write_bytes(found[path])
    for name in ("card.md", "croissant.json"):
        (out / name).write_bytes(found[name] + b" ")
        assert told() == ((name,), ())
        (out / name).write_bytes(found[name])
    assert verify_folder(out).ok


def test_the_place_of_an_unfinished_release_is_its_owners(home: Path) -> None:
    FolderPlace(home / "out")
    assert (home / "out" / ".release").stat().st_mode & 0o077 == 0


def test_two_runs_do_not_share_a_place(home: Path, mine: Using) -> None:
    for form in ("dicom", "parquet"):
        with FolderPlace(home / "out").alone(), pytest.raises(LockTimeout):
            go(home, mine, form)
