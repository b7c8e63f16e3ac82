"""A user's session shows the tables and nothing behind them: the five ways round, and a few more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pytest

from catalog_support import pack, patient, rows
from voxelvault.catalog.catalog import Change
from voxelvault.catalog.ducklake import DuckLakeCatalog, _password
from voxelvault.catalog.ducklake_sql import data_files, metadata
from voxelvault.catalog.user_sql import Result, UserSession
from voxelvault.crypto.key_tree import Role
from voxelvault.errors import QueryError
from voxelvault.model import new_id


@pytest.fixture(scope="module")
def session(filled: DuckLakeCatalog) -> Iterator[UserSession]:
    with filled.user_session() as opened:
        yield opened


@pytest.fixture(scope="module")
def filtered(filled: DuckLakeCatalog) -> Iterator[UserSession]:
    with filled.user_session(allowed={"series": "SELECT series_id, Modality FROM series"}) as opened:
        yield opened


def paths(catalog: DuckLakeCatalog) -> list[str]:
    with catalog.lease() as lease:
        return data_files(lease._connection, metadata("lake"), current=False)


def test_tables_answer_by_their_names(session: UserSession) -> None:
    assert session.sql("SELECT PatientName FROM patients").fetchall() == [("DOE^JANE",)]
    by_tag = "SELECT header ->> '$.00080060.Value[0]' AS Modality, count(*) FROM instances GROUP BY ALL"
    assert session.sql(by_tag).fetchall() == [("CT", 60)]
    assert session.sql("SELECT frame FROM frames WHERE frame = ?", [7]).fetchall() == [(7,)]


def test_way_1_a_table_that_policy_hides_is_not_there(filtered: UserSession) -> None:
    assert filtered.sql("FROM series").columns == ["series_id", "Modality"]
    for text in ("FROM patients", "FROM lake.main.patients", "SELECT header FROM instances"):
        with pytest.raises(QueryError):
            filtered.sql(text)


@pytest.mark.parametrize("which", ["session", "filtered"])
def test_way_2_files_are_out_of_reach(
    which: str, filled: DuckLakeCatalog, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    open_session: UserSession = request.getfixturevalue(which)
    (tmp_path / "own.csv").write_text("a,b\n1,2\n")
    targets = ["sealed://lake/**", "sealed://**", "/etc/*", str(tmp_path / "own.csv"), *paths(filled)]
    for target in targets:
        for function in ("read_parquet", "read_csv", "read_text", "read_blob", "parquet_metadata"):
            # Some refuse a pattern that matches nothing, others return nothing.
            with suppress(QueryError):
                assert len(open_session.sql(f"FROM {function}('{target}')")) == 0
    for text in (
        f"COPY (SELECT 1) TO '{tmp_path}/out.csv'",
        "COPY (SELECT 1) TO 'sealed://lake/main/patients/new.parquet'",
        f"ATTACH '{tmp_path}/new.duckdb'",
        f"EXPORT DATABASE '{tmp_path}/export'",
        "INSTALL spatial",
        "LOAD '/tmp/x.duckdb_extension'",
        "FROM glob('/*')",
    ):
        with pytest.raises(QueryError):
            open_session.sql(text)


def test_way_3_metadata_has_no_replaced_value_and_under_policy_nothing(
    session: UserSession, filtered: UserSession
) -> None:
    with pytest.raises(QueryError):
        filtered.sql("FROM __ducklake_metadata_lake.ducklake_file_column_stats")
    # Without a row policy the caller may read these rows anyway; keys are not among them.
    keys = session.sql("SELECT encryption_key FROM __ducklake_metadata_lake.ducklake_data_file")
    assert set(keys.fetchall()) <= {(None,)}


@pytest.mark.parametrize("which", ["session", "filtered"])
def test_way_4_databases_show_no_key_of_the_vault(
    which: str, request: pytest.FixtureRequest, filled: DuckLakeCatalog
) -> None:
    open_session: UserSession = request.getfixturevalue(which)
    shown = str(open_session.sql("FROM duckdb_databases()").fetchall())
    shown += str(open_session.sql("FROM duckdb_settings()").fetchall())
    keys = filled._keys
    for key_id in keys.keys_of(Role.CATALOG):
        assert _password(keys.dek(key_id)) not in shown
    # What it does show opens a copy that has no name any more.
    for (path,) in open_session.sql("SELECT path FROM duckdb_databases() WHERE path IS NOT NULL").fetchall():
        assert not Path(path).exists()


@pytest.mark.parametrize("which", ["session", "filtered"])
def test_way_5_there_are_no_secrets(which: str, request: pytest.FixtureRequest) -> None:
    assert request.getfixturevalue(which).sql("FROM duckdb_secrets()").fetchall() == []


@pytest.mark.parametrize("which", ["session", "filtered"])
def test_the_door_stays_closed(which: str, request: pytest.FixtureRequest) -> None:
    open_session: UserSession = request.getfixturevalue(which)
    for text in (
        "SET enable_external_access=true",
        "SET allowed_directories=['/']",
        "SET lock_configuration=false",
        "RESET enable_external_access",
        "SET python_enable_replacements=true",
        "PRAGMA enable_external_access=true",
        "SET temp_file_encryption=false",
    ):
        with pytest.raises(QueryError):
            open_session.sql(text)


def test_python_variables_are_not_tables(session: UserSession) -> None:
    secret_frame = pa.table({"a": [1]})
    assert secret_frame.num_rows == 1
    with pytest.raises(QueryError, match="secret_frame"):
        session.sql("FROM secret_frame")


def test_the_vault_is_read_only(session: UserSession, filled: DuckLakeCatalog) -> None:
    for text in ("DELETE FROM patients", "DROP TABLE patients", "CREATE TABLE more (a INTEGER)"):
        with pytest.raises(QueryError):
            session.sql(text)
    assert filled.query("SELECT count(*) AS n FROM patients")["n"].to_pylist() == [1]


def test_a_user_may_keep_tables_in_memory(session: UserSession) -> None:
    session.sql("CREATE OR REPLACE TABLE memory.main.mine AS SELECT count(*) AS n FROM frames")
    assert session.sql("FROM mine").fetchall() == [(60,)]


def test_more_tables_can_be_given(filled: DuckLakeCatalog) -> None:
    audit = pa.table({"index": [0, 1], "kind": ["VAULT_CREATED", "OPENED"]})
    with filled.user_session(extra={"audit": audit}) as session:
        assert session.sql("SELECT kind FROM audit WHERE index = 1").fetchall() == [("OPENED",)]
        assert session.sql("SELECT count(*) FROM series").fetchall() == [(1,)]


def test_the_session_says_which_state_it_shows(catalog: DuckLakeCatalog) -> None:
    catalog.commit([patient(new_id())])
    with catalog.user_session() as session:
        assert session.info == catalog.head()
        catalog.commit([patient(new_id())])
        assert session.info != catalog.head()
        assert session.sql("SELECT count(*) FROM patients").fetchall() == [(1,)]


def test_an_error_speaks_of_the_sql_and_quotes_no_value(session: UserSession) -> None:
    with pytest.raises(QueryError, match="Modalty"):
        session.sql("SELECT Modalty FROM series")
    with pytest.raises(QueryError, match="syntax error"):
        session.sql("SELEC 1")
    with pytest.raises(QueryError) as caught:
        session.sql("SELECT CAST(PatientName AS DATE) FROM patients")
    assert "DOE" not in str(caught.value)


def test_a_result_in_every_shape() -> None:
    result = Result(pa.table({"Modality": ["CT", "MR"], "n": [2, 1]}))
    assert list(result) == result.fetchall() == [("CT", 2), ("MR", 1)]
    assert len(result) == 2
    assert result.arrow().num_rows == 2
    assert result.df()["n"].sum() == 3
    assert result.pl()["n"].sum() == 3


def test_a_repr_shows_values_only_when_told() -> None:
    table = pa.table({"<b>x</b>": ["<script>PLANTED</script>"]})
    quiet = Result(table)
    assert "PLANTED" not in repr(quiet) + quiet._repr_html_()
    told = Result(table, identifying=True)._repr_html_()
    assert "&lt;script&gt;PLANTED" in told
    assert "<script>" not in told
    assert "<b>" not in told


def test_a_row_deleted_is_gone_from_the_session(catalog: DuckLakeCatalog) -> None:
    catalog.commit(pack(new_id(), 60))
    victim = catalog.query("SELECT instance_id FROM instances ORDER BY 1 LIMIT 1")["instance_id"][0].as_py()
    catalog.commit([Change("instances", rows(instance_id=[victim]), "delete")])
    with catalog.user_session() as session:
        assert session.sql("SELECT count(*) FROM instances").fetchall() == [(59,)]
        assert session.sql("FROM instances WHERE instance_id = ?", [victim]).fetchall() == []
