"""Label files as people have them; every example here is made up."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from voxelvault.errors import UsageError
from voxelvault.formats.label_tables import read_label_table


def written(tmp_path: Path, text: str, name: str = "labels.csv", coding: str = "utf-8") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode(coding))
    return path


@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_delimiter_mark_and_case_do_not_matter(tmp_path: Path, delimiter: str, coding: str) -> None:
    lines = [
        ("Series_Instance UID", "bleed", "age", "ward"),
        ("1.2.3", "1", "63.5", "A"),
        ("1.2.4", "0", "", "B"),
    ]
    text = "\r\n".join(delimiter.join(line) for line in lines)
    found = read_label_table(written(tmp_path, text, coding=coding))
    assert (found.on, found.layout, len(found)) == ("SeriesInstanceUID", "wide", 2)
    assert found.table.to_pydict() == {
        "SeriesInstanceUID": ["1.2.3", "1.2.4"],
        "bleed": [1, 0],
        "age": [63.5, None],
        "ward": ["A", "B"],
    }


def test_keys_stay_text_and_codes_with_leading_zeros_too(tmp_path: Path) -> None:
    found = read_label_table(written(tmp_path, "patient_id,site,hit\n0012,007,true\n0013,008,false\n"))
    assert found.on == "PatientID"
    assert found.df().to_dict("list") == {
        "PatientID": ["0012", "0013"],
        "site": ["007", "008"],
        "hit": [True, False],
    }


def test_the_finest_key_is_taken_and_the_others_are_no_labels(tmp_path: Path) -> None:
    path = written(tmp_path, "PatientID,StudyInstanceUID,SOPInstanceUID,label\nDoe,1.2,1.2.3,4\n")
    found = read_label_table(path)
    assert found.table.to_pydict() == {"SOPInstanceUID": ["1.2.3"], "label": [4]}
    assert read_label_table(path, on="patientid").table.to_pydict() == {"PatientID": ["Doe"], "label": [4]}
    assert "Doe" not in repr(found)


def test_a_key_of_another_name_is_taken_when_named(tmp_path: Path) -> None:
    found = read_label_table(written(tmp_path, "case,label\na,1\n"), on="Case")
    assert (found.on, found.table.to_pydict()) == ("case", {"case": ["a"], "label": [1]})


def test_quoted_fields_may_hold_delimiters_and_line_ends(tmp_path: Path) -> None:
    found = read_label_table(written(tmp_path, 'study_uid,note\n1.2,"a, b\nc"\n1.3,d\n'))
    assert found.table.column("note").to_pylist() == ["a, b\nc", "d"]


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("", "header"),
        ("just one column\n1\n", "header"),
        ("name,label\na,1\n", "on="),
        ("PatientID,x,x\na,1,2\n", "rename"),
        ("PatientID,x\na,1,2\n", "quote"),
        ("PatientID,x\n,1\n", "1 rows have no key"),
        ("PatientID,StudyInstanceUID\na,1.2\n", "no label"),
        ("ID,Label\nID_1_any,1\nsomething,0\n", "1 rows"),
        ("ID,Label\nID_1_any,1\nID_1_any,0\n", "settle"),
        ("ID,Label\nID_1_any,2\n", "neither 0 nor 1"),
        ("name,Category,R1:ICH\nCQ500-CT-0,B1,perhaps\n", "no number"),
        ('{"training": 3}', "no list of cases"),
        ("{nonsense", "isn't"),
        ('[{"image": "patient_one.nii.gz", "label": 1}]', "CSV"),
        ('[{"image": "1.2.3.nii.gz", "label": "labelsTr/1.nii.gz"}]', "masks"),
        ('[{"image": "1.2.3.nii", "label": 1}, {"image": "1.2.4.nii", "label": "a"}]', "alike"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_without_values(tmp_path: Path, text: str, advice: str) -> None:
    with pytest.raises(UsageError, match=advice) as caught:
        read_label_table(written(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert not any(value in str(caught.value) for value in ("patient_one", "something", "perhaps"))


def test_a_file_that_is_not_there_is_said_without_its_path(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such file") as caught:
        read_label_table(tmp_path / "Doe_Jane.csv")
    assert "Doe" not in str(caught.value)


def test_rsna_rows_become_a_row_an_image(tmp_path: Path) -> None:
    text = "ID,Label\n" + "".join(
        f"ID_{image}_{subtype},{int(subtype in marked)}\n"
        for image, marked in (("0a", ("any", "subdural")), ("0b", ()))
        for subtype in ("epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural", "any")
    )
    # The published file repeats a few images word for word, and may lack a subtype.
    found = read_label_table(written(tmp_path, text + "ID_0a_any,1\nID_0c_any,0\n"))
    assert (found.on, found.layout) == ("SOPInstanceUID", "rsna-2019")
    assert found.table.column_names[1:] == [
        "epidural",
        "intraparenchymal",
        "intraventricular",
        "subarachnoid",
        "subdural",
        "any",
    ]
    rows = {row["SOPInstanceUID"]: row for row in found.table.to_pylist()}
    assert rows["ID_0a"]["subdural"] == rows["ID_0a"]["any"] == 1
    assert rows["ID_0a"]["epidural"] == 0
    assert rows["ID_0b"]["any"] == 0
    assert rows["ID_0c"]["epidural"] is None


def test_most_readers_of_cq500_decide(tmp_path: Path) -> None:
    text = (
        "name,Category,R1:ICH,R1:SDH,R2:ICH,R2:SDH,R3:ICH,R3:SDH\n"
        "CQ500-CT-0,B1,1,0,1,0,0,1\n"
        "CQ500-CT-1,B2,0,,1,,0,\n"
    )
    found = read_label_table(written(tmp_path, text, "reads.csv"))
    assert (found.on, found.layout) == ("PatientID", "cq500")
    assert found.table.to_pydict() == {
        "PatientID": ["CQ500-CT-0", "CQ500-CT-1"],
        "Category": ["B1", "B2"],
        "ICH": [1, 0],
        "SDH": [0, None],
    }


def test_a_list_of_cases_is_known_by_file_names(tmp_path: Path) -> None:
    one, two = "0123456789abcdef" * 2, "fedcba9876543210" * 2
    document = {
        "name": "Task99",
        "training": [
            {"image": f"./imagesTr/{one}.nii.gz", "label": 1, "fold": 0, "mask": "labelsTr/a.nii.gz"}
        ],
        "testing": [f"imagesTs\\{two}_stack-1.nii.gz"],
    }
    found = read_label_table(written(tmp_path, json.dumps(document), "dataset.json"))
    assert (found.on, found.layout) == ("series_id", "dataset.json")
    assert found.table.to_pydict() == {
        "series_id": [one, two],
        "part": ["training", "test"],
        "label": [1, None],
        "fold": [0, None],
    }


def test_a_list_of_cases_takes_uids_of_letters_too(tmp_path: Path) -> None:
    document = [{"image": "ID_0a1b2c3d.nii.gz", "label": 1}]
    found = read_label_table(written(tmp_path, json.dumps(document), "dataset.json"))
    assert found.table["SeriesInstanceUID"].to_pylist() == ["ID_0a1b2c3d"]


def test_the_same_table_comes_in_every_library(tmp_path: Path) -> None:
    found = read_label_table(written(tmp_path, "series_uid,label\n1.2,1\n"))
    assert isinstance(found.arrow(), pa.Table)
    assert (
        found.pl().to_dicts() == found.df().to_dict("records") == [{"SeriesInstanceUID": "1.2", "label": 1}]
    )
