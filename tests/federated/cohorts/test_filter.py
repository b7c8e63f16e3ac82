"""Filters are columns, operators and literals; nothing else gets to the catalog."""

from __future__ import annotations

from typing import Any

import pytest

from voxelvault_fl.cohorts.filter import columns_in, compiled, parsed
from voxelvault_fl.cohorts.view import COLUMNS
from voxelvault_fl.errors import JobRefused

CT = {"column": "Modality", "op": "=", "value": "CT"}


def test_a_filter_becomes_a_condition_with_parameters() -> None:
    thin = {"column": "SliceThickness", "op": "<", "value": 3}
    sex = {"column": "PatientSex", "op": "in", "value": ["F", "M"]}
    found = parsed({"all": [CT, {"not": {"any": [thin, sex]}}]})
    text, values = compiled(found)
    assert text == (
        '(coalesce("Modality" = ?, false)) AND (NOT ((coalesce("SliceThickness" < ?, false)) OR '
        '(coalesce("PatientSex" IN (?, ?), false))))'
    )
    assert values == ["CT", 3, "F", "M"]
    assert columns_in(found) == {"Modality", "SliceThickness", "PatientSex"}


@pytest.mark.parametrize("column", ["PatientID", "PatientName", "StudyInstanceUID", "SeriesDescription",
    "StudyDate", "AccessionNumber", "DeviceSerialNumber", "InstitutionName", "subject_id"])  # fmt: skip
def test_what_identifies_is_not_in_the_view(column: str) -> None:
    assert column not in COLUMNS
    with pytest.raises(JobRefused) as refused:
        parsed({"column": column, "op": "=", "value": "x"})
    assert refused.value.rule == "filter-column"


def _deep(levels: int) -> dict[str, Any]:
    return CT if not levels else {"not": _deep(levels - 1)}


@pytest.mark.parametrize(
    "said",
    [
        {},
        [],
        "Modality = 'CT'",
        {"all": []},
        {"all": "CT"},
        {"any": [CT], "all": [CT]},
        {"not": [CT]},
        {**CT, "op": "LIKE"},
        {**CT, "op": "= 'CT' OR 1 ="},
        {**CT, "value": 5},
        {**CT, "value": None},
        {**CT, "value": ["CT"]},
        {**CT, "value": "x" * 101},
        {**CT, "op": "in", "value": "CT"},
        {**CT, "op": "in", "value": []},
        {**CT, "op": "in", "value": ["CT"] * 101},
        {**CT, "more": 1},
        {"column": "KVP", "op": "=", "value": "120"},
        {"column": "KVP", "op": "=", "value": True},
        {"column": ["KVP"], "op": "=", "value": 1},
        {"column": "KVP", "op": ["="], "value": 1},
        _deep(9),
        {"all": [CT] * 65},
    ],
)
def test_what_is_no_filter(said: Any) -> None:
    with pytest.raises(JobRefused):
        parsed(said)


def test_a_literal_is_never_sql() -> None:
    text, values = compiled(parsed({**CT, "value": "CT' OR '1'='1"}))
    assert text == 'coalesce("Modality" = ?, false)'
    assert values == ["CT' OR '1'='1"]
