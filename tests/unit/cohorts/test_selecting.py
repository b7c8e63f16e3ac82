"""Which series a condition, a list of UIDs or a table means."""

from __future__ import annotations

import gc
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from cohort_support import made, person, put, write

import voxelvault as vv
from voxelvault.audit.events import Kind
from voxelvault.cohorts.selecting import check_condition
from voxelvault.errors import (
    AmbiguousUID,
    MissingExtra,
    PolicyDenied,
    QueryError,
    UnknownUID,
    UsageError,
    VaultClosed,
)
from voxelvault.testing import synthetic


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[vv.Vault]:
    folder = tmp_path_factory.mktemp("selecting")
    with made(folder) as vault:
        for number in range(6):
            write(folder / "in", number, person(number // 2), mr=number % 3 == 2)
        vault.ingest(folder / "in", progress=False)
        yield vault


def test_a_selection_asks_nothing_before_its_first_use(vault: vv.Vault) -> None:
    entries = len(vault.audit)
    selection = vault.select("Modality = 'CT'").where("NOT true")
    assert len(vault.audit) == entries
    assert len(selection) == 0
    assert len(vault.audit) > entries


def test_conditions_see_series_studies_and_patients(vault: vv.Vault) -> None:
    assert len(vault.select()) == 6
    assert len(vault.select("Modality = 'CT'")) == 4
    assert len(vault.select("PatientID = 'P0' and StudyDescription = 'synthetic study'")) == 2
    assert len(vault.select("PatientID = $who", parameters={"who": "P0"})) == 2
    assert len(vault.select("series.Modality = ?", parameters=["MR"])) == 2
    assert len(vault.select("frame_count = 2 and instance_count = 2")) == 6
    assert len(vault.select("frame_count > 2")) == 0
    assert len(vault.select("Modality = 'CT' -- the rest doesn't count")) == 4
    nested = "exists (from instances i where i.series_id = series.series_id and InstanceNumber = 2)"
    assert len(vault.select(nested)) == 6
    with pytest.raises(UsageError, match="parameters"):
        vault.select(["1.2.3"], parameters=["CT"])


@pytest.mark.parametrize(
    "condition",
    [
        "",
        "   ",
        "true) or (true",
        "true); drop table series; select (1",
        "true; select 1",
        "(true",
        "1=1) union all select subject_id from patients where (1=1",
    ],
)
def test_what_is_no_condition_is_refused(vault: vv.Vault, condition: str) -> None:
    with pytest.raises(QueryError, match="not one SQL condition"):
        vault.select(condition)


@pytest.mark.parametrize(
    "condition",
    [
        "series_id in (select encryption_key from __ducklake_metadata_lake.nothing_here)",
        "exists (from read_text('/etc/passwd'))",
        "exists (from read_csv('/etc/passwd'))",
        "exists (from glob('/*'))",
        "Modalty = 'CT'",
        "CAST(PatientName AS DATE) is null",
        "error(PatientName) is null",
        "true union select 1",
    ],
)
def test_hostile_and_failing_conditions_fail_when_used_and_quote_nobody(
    vault: vv.Vault, condition: str
) -> None:
    with pytest.raises(QueryError) as caught:
        len(vault.select(condition))
    assert "PLANTED" not in str(caught.value)
    assert "root:" not in str(caught.value)


def test_a_condition_sees_no_secret_of_the_vault(vault: vv.Vault) -> None:
    # The engine's lists are those of a session that holds none of the vault's keys.
    assert len(vault.select("exists (from duckdb_secrets())")) == 0
    shown = "exists (from duckdb_databases() where path is not null and path like '%catalog%vault%')"
    assert len(vault.select(shown)) == 0


def test_strings_and_comments_do_not_count_as_brackets() -> None:
    check_condition("SeriesDescription = ')' or PatientName = '(('")
    check_condition("Modality = 'CT' /* ) */")
    check_condition("\"Modality\" in ('CT', 'MR')")


def test_asking_is_in_the_log_with_its_condition(vault: vv.Vault) -> None:
    len(vault.select("Modality = 'MR'"))
    entry = vault.audit.log(1)[0]
    assert entry.kind == Kind.QUERY
    assert "Modality = 'MR'" in (vault.resources.log.text_of(entry) or "")
    len(vault.select("PatientID = 'P1'"))
    assert vault.audit.log(1)[0].kind == Kind.IDENTIFYING_READ


def test_without_an_entry_nothing_is_selected(vault: vv.Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    class Nobody:
        def decide(self, request: object) -> object:
            raise PolicyDenied("no")

    selection = vault.select("Modality = 'CT'")
    monkeypatch.setattr(type(vault.resources.policy), "decide", Nobody.decide)
    for use in (lambda: len(selection), lambda: vault.select().df(), lambda: next(iter(vault.select()))):
        with pytest.raises(PolicyDenied):
            use()


def test_uids_of_every_level_and_opaque_ids(vault: vv.Vault) -> None:
    table = vault.select("PatientID = 'P1'").arrow()
    series, study = table["SeriesInstanceUID"][0].as_py(), table["StudyInstanceUID"][0].as_py()
    own = table["series_id"][0].as_py()
    sop = vault.resources.catalog.query(
        "select SOPInstanceUID as uid from instances where series_id = $id", {"id": own}
    )["uid"].to_pylist()
    for uids in ([series], [study], [series, study], sop, [own], [table["study_id"][0].as_py()]):
        assert vault.select(uids).series_ids == (own,)
    assert vault.select(series).series_ids == vault.select(uids=pa.array([series]).to_pylist()).series_ids
    assert len(vault.select([table["subject_id"][0].as_py()])) == 2
    assert len(vault.select([])) == 0
    assert len(vault.select("Modality = 'CT'", uids=[study])) in (0, 1)
    with pytest.raises(UnknownUID, match="2 of 3 UIDs") as caught:
        len(vault.select([series, "1.2.3.4", "1.2.3.5"]))
    assert "1.2.3.4" not in str(caught.value)
    with pytest.raises(UsageError, match="text"):
        vault.select([7])
    with pytest.raises(UsageError, match="select by"):
        vault.select(7)


@pytest.mark.parametrize("kind", ["pandas", "polars", "arrow", "index", "result"])
def test_data_frames(vault: vv.Vault, kind: str) -> None:
    wanted = vault.select("Modality = 'MR'")
    table = wanted.arrow().select(["SeriesInstanceUID", "StudyInstanceUID", "Modality"])
    frame: object = {
        "pandas": lambda: table.to_pandas(),
        "polars": lambda: pl.from_arrow(table),
        "arrow": lambda: table,
        "index": lambda: table.to_pandas().set_index("SeriesInstanceUID"),
        "result": lambda: vault.sql("select SeriesInstanceUID from series where Modality = 'MR'"),
    }[kind]()
    assert vault.select(frame).series_ids == wanted.series_ids
    with pytest.raises(UsageError, match="no column named"):
        vault.select(pd.DataFrame({"uid": ["1.2.3"]}))


def test_a_uid_of_two_people_is_ambiguous(tmp_path: Path) -> None:
    with made(tmp_path) as vault:
        write(tmp_path / "in" / "a", 1, person(1))
        write(tmp_path / "in" / "b", 1, person(2))
        vault.ingest(tmp_path / "in", progress=False)
        for uid in (synthetic.uid(1), synthetic.uid(1, 1), synthetic.uid(1, 1, 1)):
            with pytest.raises(AmbiguousUID) as caught:
                len(vault.select([uid]))
            assert uid not in str(caught.value)
        assert len(vault.select(vault.select().series_ids)) == 2


def test_set_operations_and_samples(vault: vv.Vault) -> None:
    ct, p1 = vault.select("Modality = 'CT'"), vault.select("PatientID = 'P1'")
    everything = set(vault.select().series_ids)
    assert set((ct & p1).series_ids) == set(ct.series_ids) & set(p1.series_ids)
    assert set((ct | p1).series_ids) == set(ct.series_ids) | set(p1.series_ids)
    assert set((vault.select() - ct).series_ids) == everything - set(ct.series_ids)
    some = vault.select().sample(3, seed=5)
    assert len(some) == 3
    assert some.series_ids == vault.select().sample(3, seed=5).series_ids
    assert {vault.select().sample(3, seed=seed).series_ids for seed in range(9)} != {some.series_ids}
    assert set(some.series_ids) <= set(vault.select().sample(4, seed=5).series_ids)
    assert len(vault.select().sample(99)) == 6
    with pytest.raises(UsageError):
        vault.select().sample(-1)


def test_a_loop_is_one_opening_that_ends_when_none_of_its_series_is_in_use(vault: vv.Vault) -> None:
    def kinds() -> list[Kind]:
        return [entry.kind for entry in vault.audit.log()[before:] if entry.kind != Kind.QUERY]

    everything, before = vault.select(), len(vault.audit)
    shapes, kept = [], []
    for series in everything:
        with series:
            shapes.append(series.load().shape)
        kept.append(series)
    assert shapes == [(2, 16, 16)] * 6
    assert kept[0].load().shape == (2, 16, 16)
    assert kinds() == [Kind.HANDLE_OPENED]
    del series, kept
    gc.collect()
    for _ in everything:
        break
    assert kinds() == [Kind.HANDLE_OPENED, Kind.HANDLE_CLOSED, Kind.HANDLE_OPENED]
    closed = next(entry for entry in vault.audit.log()[before:] if entry.kind == Kind.HANDLE_CLOSED)
    assert closed.counts["frames"] == 14


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_a_lone_uid_of_letters_is_no_condition(tmp_path: Path) -> None:
    with made(tmp_path) as vault:
        put(vault, tmp_path / "in", 0, person(0, SeriesInstanceUID="ID_0a1b2c3d"))
        assert len(vault.select("ID_0a1b2c3d")) == 1
        assert len(vault.select("SeriesInstanceUID = 'ID_0a1b2c3d'")) == 1


def test_lazy_volumes_of_a_loop_outlive_their_series(vault: vv.Vault) -> None:
    everything = vault.select()
    lazy = [series.volume() for series in everything]
    labelled = next(iter(everything)).to_xarray()
    gc.collect()
    list(everything)
    assert [volume.compute().shape for volume in lazy] == [(2, 16, 16)] * 6
    assert labelled.compute().shape == (2, 16, 16)


def test_tables_have_a_row_a_series_and_are_entered_as_identifying(vault: vv.Vault) -> None:
    selection = vault.select("Modality = 'MR'")
    frame = selection.df()
    assert list(frame["series_id"]) == list(selection.series_ids)
    assert {"PatientID", "StudyDescription", "Modality", "frame_count", "subject_id"} <= set(frame.columns)
    assert "key_id" not in frame.columns
    assert vault.audit.log(1)[0].kind == Kind.IDENTIFYING_READ
    try:
        assert selection.pl().height == 2
    except MissingExtra:
        pytest.skip("polars is not installed")
    assert len(vault.select("false").df()) == 0


def test_reprs_count_and_name_nobody(vault: vv.Vault) -> None:
    selection = vault.select("PatientID = 'P1'")
    assert repr(selection) == "<Selection: 2 series of 1 subject, CT 1, MR 1>"
    shown = selection._repr_html_()
    assert shown.count("<tr>") == 3
    assert "image/png" in shown
    shown = re.sub(r"base64,[^\"']*", "", shown)
    for planted in ("PLANTED", "P1", synthetic.uid(2), synthetic.uid(2, 1)):
        assert planted not in shown
    assert vault.audit.log(1)[0].codes["type"] == ("gallery",)


def test_a_selection_does_not_pickle(vault: vv.Vault) -> None:
    with pytest.raises(TypeError, match="freeze"):
        pickle.dumps(vault.select())


def test_lazy_arrays_stay_open_until_the_vault_closes(tmp_path: Path) -> None:
    with made(tmp_path) as vault:
        for number in range(3):
            write(tmp_path / "in", number, person(number))
        vault.ingest(tmp_path / "in", progress=False)
        volumes = vault.select().to_dask()
        tree = vault.select().to_xarray()
        assert sorted(volumes) == list(vault.select().series_ids) == sorted(tree.children)
        for series_id, volume in volumes.items():
            image = tree[series_id]["image"]
            assert (volume.compute() == image.compute().values).all()
            assert image.dims == ("slice", "row", "column")
        kinds = [entry.kind for entry in vault.audit.log(2)]
        assert Kind.HANDLE_CLOSED not in kinds
    with pytest.raises(VaultClosed):
        next(iter(volumes.values())).compute()


@pytest.mark.parametrize("form", ["pandas", "polars", "pyarrow"])
def test_one_column_of_a_table_is_a_list_of_uids(vault: vv.Vault, form: str) -> None:
    heads = vault.select("Modality = 'CT'")
    column = {"pandas": heads.df, "polars": heads.pl, "pyarrow": heads.arrow}[form]()["SeriesInstanceUID"]
    assert vault.select(uids=column).series_ids == heads.series_ids


@pytest.mark.parametrize(
    ("condition", "advice"),
    [("Modalty = 'CT'", "perhaps Modality"), ('Modality = "CT"', "text goes in single quotes")],
)
def test_a_column_that_is_none_gets_advice(vault: vv.Vault, condition: str, advice: str) -> None:
    with pytest.raises(QueryError, match=advice):
        len(vault.select(condition))
