"""Hostile files, wrong keys, broken or rolled-back vaults: a sentence that helps, and an intact vault."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from flow_support import (
    copy_vault,
    counts,
    digest,
    exported,
    open_again,
    person_file,
    python,
    rows,
    series_uid,
    snapshot,
    write,
)

import voxelvault as vv
from voxelvault import errors
from voxelvault.audit.events import Kind
from voxelvault.config import default_key_file
from voxelvault.errors import VoxelVaultError
from voxelvault.storage import mounts
from voxelvault.testing.synthetic import (
    MARKUP,
    PLANTED,
    ct_series,
    every_kind,
    hostile,
    hostile_archives,
    uid,
)
from voxelvault.vault import Vault


def one_line(error: BaseException, *planted: str) -> None:
    """The message is one line that helps, and nothing chained to it tells what or where."""
    seen: BaseException | None = error
    while seen is not None:
        assert isinstance(seen, VoxelVaultError), repr(seen)
        assert "\n" not in str(seen)
        assert not any(word in str(seen) for word in (*PLANTED, *planted)), str(seen)
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    assert len(str(error)) > 20


def named(files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{name.replace('/', '_').replace(' ', '_')}.dcm": data for name, data in files.items()}


# What comes in


def test_hostile_files_never_stop_a_batch(vault: Vault, tmp_path: Path) -> None:
    good, bad = ct_series(3, 16, 16), hostile()
    folder = write(tmp_path / "in", named(bad))
    write(folder / "zz", good)
    report = vault.ingest(folder, progress=False)
    assert report.found == len(bad) + len(good)
    assert report.stored + report.duplicates + len(report.quarantined) + report.not_dicom == report.found
    reasons = {Path(item.source).name: item.reason.code for item in report.quarantined}
    assert "unforeseen" not in reasons.values()
    assert reasons["nested_10,000_deep.dcm"] == "malformed"
    for item in report.quarantined:
        assert item.reason.sentence
        assert item.reason.advice
    # Whatever came in comes out, and what did not is in quarantine, byte for byte.
    kept = vault.resources.catalog.query("select quarantine_id from quarantine").to_pylist()
    assert len(kept) == len(report.quarantined)
    from voxelvault.intake.quarantine import quarantine_export

    aside = [digest(path.read_bytes()) for path in quarantine_export(vault.resources, tmp_path / "aside")]
    everything = {digest(data) for data in [*bad.values(), *good]}
    assert set(exported(vault, tmp_path / "out")) | set(aside) == everything
    assert set(map(digest, good)) <= set(exported(vault, tmp_path / "out"))
    assert vault.verify(progress=False).ok
    # A second time: nothing is stored, nothing is kept aside twice.
    again = vault.ingest(folder, progress=False)
    assert again.stored == 0
    assert counts(vault, "quarantine") == (len(kept),)
    # Nothing escaped its folder.
    assert not Path("/tmp/planted-escape").exists()
    assert not list(tmp_path.glob("planted-escape*"))
    # Markup in names is shown as text.
    page = vault.sql("select PatientName from patients")
    object.__setattr__(page, "identifying", True)
    assert MARKUP not in page._repr_html_()
    # The log says nothing of any of it.
    log = "".join(str(entry.leaf) for entry in vault.audit.log())
    assert not any(word in log for word in (*PLANTED, "in/zz", uid(0)))


def test_hostile_archives(vault: Vault, tmp_path: Path) -> None:
    good = hostile_archives()["escape.tar"]
    for name, data in hostile_archives().items():
        folder = write(tmp_path / name, {name: data})
        report = vault.ingest(folder / name, progress=False)
        assert report.refused or report.quarantined or report.stored or report.duplicates, name
        assert all("\n" not in line for line in report.refused)
    assert good
    assert counts(vault, "instances", "patients") == (1, 1)
    assert not Path("/tmp/planted-escape.dcm").exists()
    assert not list(tmp_path.glob("*planted-escape*"))
    assert vault.verify(progress=False).ok


LOUD = ("claim", "nested", "bomb", "lies", "past the end", "undefined")

MEMORY = """
import resource, sys, voxelvault as vv
from pathlib import Path
from voxelvault.testing.synthetic import ct_series
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with vv.open(sys.argv[1]) as vault:
    warm = Path(sys.argv[2]) / "warm"
    vault.ingest(warm, progress=False)
    for path in sorted(Path(sys.argv[2]).iterdir()):
        before = peak()
        vault.ingest(path, progress=False)
        print(path.name, path.stat().st_size, (peak() - before) * 1024, sep="\\t")
"""


def test_memory_is_bounded_by_the_files(vault_path: Path, tmp_path: Path) -> None:
    """Claims of gigabytes in a kilobyte cost no gigabytes; bombs stay folded."""
    bombs = {name: data for name, data in hostile_archives().items() if "bomb" in name or "lying" in name}
    loud = {name: data for name, data in hostile().items() if any(word in name for word in LOUD)}
    folder = write(tmp_path / "in", named(loud) | bombs)
    write(folder / "others", named({name: data for name, data in hostile().items() if name not in loud}))
    write(folder / "warm", list(every_kind().values()))
    child = python(MEMORY, vault_path, folder)
    out, err = child.communicate(timeout=240)
    assert child.returncode == 0, err
    lines = [line.split("\t") for line in out.splitlines()]
    assert len(lines) == len(loud) + len(bombs) + 2
    grown = {name: (int(size), int(more)) for name, size, more in lines}
    assert {name: more >> 20 for name, (size, more) in grown.items() if more > 8 * size + (96 << 20)} == {}
    assert sum(more for _, more in grown.values()) < 400 << 20


def test_a_file_that_finds_a_fault_of_ours_is_kept_aside(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from voxelvault.intake import candidates, packing

    files = [person_file(instance=n, pixel=n) for n in range(3)]
    folder, parse, prepare = write(tmp_path / "in", files), candidates.parse, packing.prepare

    def breaks_on_first(data: bytes) -> object:
        if bytes(data) == files[0]:
            raise RecursionError
        return parse(data)

    def breaks_on_second(data: bytes, *arguments: object, **named: object) -> object:
        if bytes(data) == files[1]:
            raise ZeroDivisionError
        return prepare(data, *arguments, **named)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(candidates, "parse", breaks_on_first)
        patch.setattr(packing, "prepare", breaks_on_second)
        for _ in range(2):
            report = vault.ingest(folder, progress=False)
            assert [item.reason.code for item in report.quarantined] == ["unforeseen"] * 2
    assert counts(vault, "instances", "quarantine") == (1, 2)
    assert vault.verify(progress=False).ok


def test_a_path_that_is_not_there(vault: Vault, tmp_path: Path) -> None:
    for wrong in (lambda: vault.ingest(tmp_path / "nowhere"), lambda: vault.series("1.2.3")):
        with pytest.raises(errors.UsageError) as caught:
            wrong()
        one_line(caught.value, "nowhere")
    with pytest.raises(errors.UnknownUID) as caught_uid:
        vault.export(tmp_path / "out", study="1.2.3", progress=False)
    one_line(caught_uid.value)
    assert not (tmp_path / "out").exists()


# What opens


def test_keys_that_are_wrong_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from voxelvault.opening import Ways, close_vault, create_vault

    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("VOXELVAULT_KEY", raising=False)
    made = create_vault(tmp_path / "vault", Ways(passphrase="right horse"), memory_kib=256 << 10)
    close_vault(made.resources)
    with pytest.raises(errors.WrongPassphrase) as wrong:
        open_again(tmp_path / "vault", passphrase="wrong horse")
    one_line(wrong.value, "wrong horse")
    with pytest.raises(errors.KeyUnavailable) as absent:
        open_again(tmp_path / "vault")
    one_line(absent.value)
    with open_again(tmp_path / "vault", recovery_code=made.recovery_code) as opened:
        assert opened.verify(progress=False).ok


def test_a_key_file_that_is_gone_or_another_vault_s(vault_path: Path, tmp_path: Path, pattern: Path) -> None:
    vault_id = next((tmp_path / "config" / "keys").glob("*.key")).stem
    default_key_file(vault_id).unlink()
    with pytest.raises(errors.KeyUnavailable) as caught:
        open_again(vault_path)
    one_line(caught.value, str(tmp_path))
    other = vv.create(tmp_path / "other")
    other.close()
    stranger = default_key_file(other.resources.settings.vault_id)
    with pytest.raises(errors.KeyUnavailable) as caught:
        open_again(vault_path, key_file=stranger)
    one_line(caught.value, str(tmp_path))
    assert snapshot(vault_path, "keys") == snapshot(pattern / "vault", "keys")


@pytest.mark.parametrize(
    "content", [None, b"", b"not = [toml", b"format = 2\n", b'format = "1"\n', b"\xff\xfe"]
)
def test_no_vault_or_none_that_says_so(tmp_path: Path, content: bytes | None) -> None:
    (tmp_path / "place").mkdir()
    if content is not None:
        (tmp_path / "place" / "vault.toml").write_bytes(content)
    with pytest.raises((errors.NotAVault, errors.IntegrityError)) as caught:
        open_again(tmp_path / "place")
    one_line(caught.value, str(tmp_path))
    with pytest.raises(errors.NotAVault):
        open_again(tmp_path / "place" / "vault.toml" / "below")


def test_a_newer_description(vault_path: Path) -> None:
    description = vault_path / "vault.toml"
    text = description.read_text()
    description.write_text(text.replace("format = 2", "format = 3"))
    with pytest.raises(errors.NewerFormat, match="update"):
        open_again(vault_path)
    description.write_text(text.replace("format = 2", "format = 1"))
    with pytest.raises(errors.OlderFormat, match="export its files") as older:
        open_again(vault_path)
    one_line(older.value)
    description.write_text(text.replace("htj2k", "raw"))
    with pytest.raises(errors.IntegrityError) as caught:
        open_again(vault_path)
    one_line(caught.value)
    description.write_text(text)
    open_again(vault_path).close()


def test_a_newer_record(vault_path: Path) -> None:
    record = vault_path / "keys" / "record.json"
    document = json.loads(record.read_bytes())

    def newer(value: object) -> object:
        if isinstance(value, dict):
            return {k: (99 if k == "format" else newer(v)) for k, v in value.items()}
        if isinstance(value, str) and '"format":1' in value:
            return value.replace('"format":1', '"format":99')
        return value

    record.write_text(json.dumps(newer(document)))
    with pytest.raises((errors.NewerFormat, errors.ForgedRecord)) as caught:
        open_again(vault_path)
    one_line(caught.value)


def test_a_newer_pack(vault: Vault, tmp_path: Path) -> None:
    vault.ingest(write(tmp_path / "in", [person_file()]), progress=False)
    (pack,) = rows(vault, "select manifest_object_id from packs")
    path = vault.path / "objects" / pack["manifest_object_id"][:2] / pack["manifest_object_id"]
    data = bytearray(path.read_bytes())
    data[8:10] = b"\x00\x02"  # the preamble's format
    path.write_bytes(data)
    report = vault.verify(progress=False)
    assert not report.ok
    with pytest.raises(errors.VoxelVaultError) as caught:
        vault.series(series_uid()).load()
    one_line(caught.value)


def test_a_place_that_is_taken_or_forbidden(
    vault_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(errors.VaultExists):
        vv.create(vault_path)
    with pytest.raises(errors.UsageError, match="must be empty"):
        vv.create(vault_path.parent)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(errors.UsageError, match="must be empty"):
        vv.create(tmp_path / "file")

    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path))

    monkeypatch.setattr("voxelvault.storage.objects.os.link", forbidden)
    with pytest.raises(errors.NoPermission) as caught:
        vv.create(tmp_path / "new")
    one_line(caught.value, str(tmp_path))
    monkeypatch.setattr("voxelvault.storage.objects.open", forbidden, raising=False)
    with pytest.raises(errors.NoPermission) as caught:
        vv.open(vault_path)
    one_line(caught.value, str(tmp_path))


def test_no_permission_to_write_the_output(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from voxelvault.intake.quarantine import quarantine_export

    vault.ingest(write(tmp_path / "in", [person_file()]), progress=False)

    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", forbidden)
        for verb in (
            lambda: vault.export(tmp_path / "out", progress=False),
            lambda: quarantine_export(vault.resources, tmp_path / "aside"),
        ):
            with pytest.raises(errors.NoPermission, match="choose another") as caught:
                verb()
            one_line(caught.value, str(tmp_path))
    assert vault.verify(progress=False).ok


def test_network_file_systems_are_read_and_not_written(
    vault: Vault, vault_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [person_file(instance=n, pixel=n) for n in (1, 2)]
    vault.ingest(write(tmp_path / "in", files), progress=False)
    vault.close()
    mounted = [f"36 35 98:0 / {vault_path} rw,noatime shared:1 - nfs4 server:/export rw"]
    monkeypatch.setattr(mounts, "_mounts", lambda: mounted)
    before = {area: snapshot(vault_path, area) for area in ("objects", "catalog", "audit", "keys")}
    with open_again(vault_path) as opened:
        assert opened.series(series_uid()).load().shape == (2, 8, 8)
        with pytest.raises(errors.NetworkFileSystem, match="PostgreSQL") as caught:
            opened.ingest(write(tmp_path / "more", [person_file(instance=3)]), progress=False)
        one_line(caught.value, str(tmp_path))
    assert {area: snapshot(vault_path, area) for area in before} == before
    with pytest.raises(errors.NetworkFileSystem):
        vv.create(vault_path / "new")


# What was put back, or changed


@pytest.fixture
def yesterday(vault: Vault, tmp_path: Path) -> tuple[Path, Path]:
    """A vault that went on, and the copy of it from before."""
    vault.ingest(write(tmp_path / "a", [person_file("A"), person_file("B", study=2)]), progress=False)
    vault.close()
    old = copy_vault(vault.path, tmp_path / "old")
    with open_again(vault.path) as opened:
        opened.ingest(write(tmp_path / "b", [person_file("C", study=3)]), progress=False)
    return vault.path, old


def put_back(path: Path, old: Path, *areas: str) -> None:
    for area in areas:
        shutil.rmtree(path / area)
        shutil.copytree(old / area, path / area)


@pytest.mark.parametrize(
    "areas", [("catalog",), ("keys",), ("audit",), ("catalog", "keys"), ("catalog", "keys", "audit")]
)
@pytest.mark.parametrize("pinned", [True, False])
def test_yesterday_put_back_is_noticed(
    yesterday: tuple[Path, Path], tmp_path: Path, areas: tuple[str, ...], pinned: bool
) -> None:
    path, old = yesterday
    put_back(path, old, *areas)
    if not pinned:
        shutil.rmtree(tmp_path / "config" / "pins")
    if pinned or "audit" not in areas:
        with pytest.raises(errors.RollbackDetected) as caught:
            open_again(path)
        one_line(caught.value, str(tmp_path))
        assert "--accept-restore" in str(caught.value)
    elif areas == ("audit",):
        # Nobody saw the newer log: it is the pack it does not vouch for that tells.
        with open_again(path) as opened:
            assert not opened.verify(progress=False).ok


def test_a_restore_can_be_accepted_and_says_so(yesterday: tuple[Path, Path], tmp_path: Path) -> None:
    path, old = yesterday
    put_back(path, old, "catalog", "keys", "audit")
    with open_again(path, accept_restore=True) as opened:
        assert Kind.RESTORE_ACCEPTED in [entry.kind for entry in opened.audit.log()]
        assert opened.verify(progress=False).ok
        opened.ingest(tmp_path / "b", progress=False)
        assert counts(opened, "instances") == (3,)
    with open_again(path) as opened:
        assert opened.verify(progress=False).ok


def test_an_accepted_older_catalog_is_told_what_it_lacks(yesterday: tuple[Path, Path]) -> None:
    path, old = yesterday
    put_back(path, old, "catalog")
    with open_again(path, accept_restore=True) as opened:
        report = opened.verify(progress=False)
        assert any("the catalog lacks it" in str(failure) for failure in report.failures)
    with open_again(path) as opened:
        assert counts(opened, "instances") == (2,)


def flip(path: Path, at: float) -> None:
    data = bytearray(path.read_bytes())
    data[min(len(data) - 1, int(at * len(data)))] ^= 0x10
    path.write_bytes(data)


def noticed(path: Path, wanted: list[str], out: Path) -> bool:
    """Tell whether opening, verifying or reading fails; what comes out is never silently wrong."""
    try:
        with open_again(path) as opened:
            if not opened.verify(progress=False).ok:
                return True
            opened.sql("select * from instances").df()
            assert exported(opened, out) == wanted
    except VoxelVaultError as error:
        one_line(error, str(path))
        return True
    return False


def test_a_flipped_bit_anywhere_is_noticed(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # More rows than a catalog file inlines, one file that is kept whole, one that is kept aside.
    files = [*ct_series(24, 8, 8), every_kind()["deflated"], hostile()["nested 10,000 deep"]]
    vault.ingest(write(tmp_path / "in", files), progress=False)
    vault.sql("select count(*) from patients")
    assert counts(vault, "instances", "quarantine") == (25, 1)
    wanted = exported(vault, tmp_path / "out")
    vault.close()
    missed = []
    tries = [(None, 0.0), *((path, at) for path in kinds_of_objects(vault.path) for at in (0.02, 0.999))]
    for number, (path, at) in enumerate(tries):
        place = tmp_path / f"try{number}"
        shutil.copytree(vault.path, place / "vault")
        shutil.copytree(tmp_path / "config", place / "config")
        monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(place / "config"))
        if path:
            flip(place / "vault" / path, at)
        if not noticed(place / "vault", wanted, place / "out"):
            missed.append((path and path.as_posix(), at))
        shutil.rmtree(place)
    # Nothing was flipped; and a database has pages that nothing is in, which change nothing.
    assert [found for found in missed if found[0] != "catalog/lake.duckdb"] == [(None, 0.0)]
    assert len(missed) <= 3


def kinds_of_objects(root: Path) -> list[Path]:
    """The newest object of each kind there is: by its preamble's kind, else by folder and ending."""
    found: dict[tuple[str, ...], Path] = {}
    for path in sorted(root.rglob("*"), key=lambda path: path.stat().st_mtime_ns):
        name = path.relative_to(root)
        if path.is_file() and name.parts[0] != "locks":
            head = path.read_bytes()[:12]
            kind = head[10:12].hex() if head[:8] == b"VOXVAULT" else path.suffix
            found[(*name.parts[: 2 if name.parts[0] in ("audit", "keys") else 1], kind)] = name
    return list(found.values())


# What a user's SQL may reach: five ways round a session


WAYS_ROUND = [
    "select * from __ducklake_metadata_lake.ducklake_file_column_stats",
    "select * from __ducklake_metadata_lake.main.ducklake_data_file",
    "select * from read_parquet('sealed://lake/**')",
    "select * from read_parquet('sealed://lake/main/patients/*.parquet')",
    "select * from read_text('/etc/passwd')",
    "select * from glob('/**')",
    "attach 'x.duckdb' as x",
    "copy (select 1) to '/tmp/planted-escape.csv'",
    "install httpfs",
    "load httpfs",
    "set enable_external_access = true",
    "set lock_configuration = false",
    "delete from patients",
    "create table own as select 1",
    "call lake.set_option('parquet_compression', 'zstd')",
    "pragma database_list; select 1",
]


def test_the_ways_round_a_session(vault: Vault, tmp_path: Path) -> None:
    vault.ingest(write(tmp_path / "in", [person_file("PLANTED-ID-7731")]), progress=False)
    for query in WAYS_ROUND:
        try:
            found = str(vault.sql(query).fetchall())
        except errors.QueryError as error:
            one_line(error)
            found = ""
        assert "PLANTED-ID" not in found, query
        assert "root:" not in found, query
    assert not Path("/tmp/planted-escape.csv").exists()
    assert counts(vault, "patients") == (1,)


def test_what_a_session_tells_of_its_databases(vault: Vault, tmp_path: Path) -> None:
    vault.ingest(write(tmp_path / "in", [person_file()]), progress=False)
    from voxelvault.catalog.ducklake import _password
    from voxelvault.crypto.key_tree import Role

    keys = vault.resources.keys
    secrets = [
        _password(keys.dek(key)) for role in (Role.CATALOG, Role.PARQUET) for key in keys.keys_of(role)
    ]
    for query in ("from duckdb_databases()", "from duckdb_secrets()", "from duckdb_settings()"):
        found = str(vault.sql(query).fetchall())
        assert not any(secret in found for secret in secrets)
        assert str(vault.path) not in found


def test_the_log_knows_what_identifies(vault: Vault) -> None:
    queries = {
        "select count(*) from series": Kind.QUERY,
        "select Modality, count(*) from series group by 1": Kind.QUERY,
        "select PatientName from patients": Kind.IDENTIFYING_READ,
        "from instances": Kind.IDENTIFYING_READ,
        "FROM instances LIMIT 1": Kind.IDENTIFYING_READ,
        "table studies": Kind.IDENTIFYING_READ,
        "select i from instances i": Kind.IDENTIFYING_READ,
        "select instances from instances": Kind.IDENTIFYING_READ,
        "summarize instances": Kind.IDENTIFYING_READ,
        "with x as (from studies) select count(*) from x": Kind.IDENTIFYING_READ,
        'select "header" from instances': Kind.IDENTIFYING_READ,
        "select columns('Pat.*') from studies": Kind.IDENTIFYING_READ,
    }
    for query in queries:
        vault.sql(query)
    logged = [e for e in vault.audit.log() if e.kind in (Kind.QUERY, Kind.IDENTIFYING_READ)]
    assert {q: k for q, k in zip(queries, (e.kind for e in logged), strict=True)} == queries
    assert [vault.resources.audit.text_of(e) for e in logged] == list(queries)
