from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxelvault.errors import StorageError
from voxelvault.model import new_id
from voxelvault.storage.layout import check_name, check_object, object_id_of, object_name


def test_object_names_fan_out() -> None:
    assert object_name("objects", "ab" + "0" * 30) == "objects/ab/ab" + "0" * 30


def test_round_trip() -> None:
    object_id = new_id()
    for area in ("objects", "derived", "catalog"):
        assert object_id_of(object_name(area, object_id)) == object_id


@pytest.mark.parametrize(
    "object_id", ["", "ab", "A" * 32, "g" * 32, "../" + "0" * 29, "0" * 31 + "\n", "0" * 33]
)
def test_what_is_no_id(object_id: str) -> None:
    with pytest.raises(StorageError):
        object_name("objects", object_id)


@pytest.mark.parametrize(
    "name",
    [
        "vault.toml",
        "catalog/lake.duckdb",
        "objects/ab/" + "a" * 31,
        "objects/ab/cd" + "0" * 30,
        "ab" + "0" * 30,
    ],
)
def test_names_without_an_id(name: str) -> None:
    assert object_id_of(name) is None


@given(st.text(st.sampled_from("ab09._-/A\\\n\0 éß"), max_size=20))
def test_checked_names_stay_below_their_root(name: str) -> None:
    try:
        check_name(name)
    except StorageError:
        return
    assert name.isascii()
    assert name == name.lower()
    assert not any(part.startswith(".") or not part for part in name.split("/"))


def test_names_of_the_vault_are_allowed() -> None:
    for name in ("vault.toml", "keys/record.json", "audit/tile/0/x001/234.p/56", "catalog/lake.duckdb.wal"):
        assert check_object(name) == name
