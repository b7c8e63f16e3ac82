"""Tables, tag lists and engine instances: what is refused before any SQL runs."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from voxelvault.catalog import engine
from voxelvault.catalog.schema import LARGE, TABLES, schema
from voxelvault.errors import CatalogError


def test_every_key_is_a_column_and_every_unit_a_table() -> None:
    for table in TABLES.values():
        assert set(table.key) <= set(table.columns)
        assert table.unit is None or (table.unit in TABLES and "pack_id" in table.columns)
        lower = [column.lower() for column in table.columns]
        assert len(lower) == len(set(lower))
    assert set(LARGE) <= set(TABLES)


def test_a_tag_list_adds_columns() -> None:
    tables = schema({"series": {"Modality": "VARCHAR", "PixelSpacing": "DOUBLE[]"}})
    assert tables["series"].columns["PixelSpacing"] == "DOUBLE[]"
    assert "Modality" not in TABLES["series"].columns


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ({"nowhere": {"Modality": "VARCHAR"}}, "names a table"),
        ({"stacks": {"Rows": "INTEGER"}}, "redefines"),
        ({"series": {"series_id": "INTEGER"}}, "redefines"),
        ({"series": {"a; drop": "VARCHAR"}}, "usable"),
        ({"series": {"Modality": "VARCHAR); DROP TABLE x"}}, "usable"),
    ],
)
def test_a_bad_tag_list_is_refused(typed: dict[str, dict[str, str]], says: str) -> None:
    with pytest.raises(CatalogError, match=says):
        schema(typed)


def test_an_absent_wheel_is_named_with_its_version() -> None:
    with pytest.raises(CatalogError, match=f"pip install no-such-extension=={duckdb.__version__}"):
        engine.extension_file("no_such_extension")


def test_an_instance_spills_sealed_and_fetches_nothing(tmp_path: Path) -> None:
    connection = engine.connect((), spill=tmp_path)
    settings = dict(connection.execute("SELECT name, value FROM duckdb_settings()").fetchall())
    connection.close()
    assert settings["temp_file_encryption"] == "true"
    assert settings["temp_directory"] == str(tmp_path)
    for off in (
        "autoinstall_known_extensions",
        "autoload_known_extensions",
        "allow_community_extensions",
        "allow_persistent_secrets",
        "allow_unsigned_extensions",
        "python_enable_replacements",
    ):
        assert settings[off] == "false", off


def test_only_errors_about_the_sql_are_quoted() -> None:
    assert engine.safe_message(duckdb.BinderException("no column x\nLINE 1")) == "no column x"
    assert "JANE" not in engine.safe_message(duckdb.ConversionException("could not convert 'DOE^JANE'"))


def test_names_and_literals_are_quoted() -> None:
    assert engine.quoted('a"b') == '"a""b"'
    assert engine.literal("a'b") == "'a''b'"
