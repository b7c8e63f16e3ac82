"""Labels from tables: joined by every key, nothing twice, nothing lost in silence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest
from cohort_support import made, person, put, subject, write

import voxelvault as vv
from voxelvault.audit.events import Kind
from voxelvault.errors import AmbiguousUID, UsageError
from voxelvault.formats.label_tables import read_label_table
from voxelvault.testing import synthetic

MANY = 5


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[vv.Vault]:
    folder = tmp_path_factory.mktemp("labelling")
    with made(folder) as vault:
        for number in range(MANY):
            more = {"AccessionNumber": f"A{number}"}
            write(folder / "in", number, person(number // 2, **more))
        write(folder / "in", 0, person(0, AccessionNumber="A0"), mr=True, series=2)
        vault.ingest(folder / "in", progress=False)
        yield vault


def studies() -> list[str]:
    return [synthetic.uid(number) for number in range(MANY)]


def values(selection: object, name: str) -> list[object]:
    return sorted((row[name] for row in selection.labels.rows.values()), key=str)  # type: ignore[attr-defined]


def test_a_study_label_goes_to_each_of_its_series(vault: vv.Vault) -> None:
    table = pd.DataFrame({"StudyInstanceUID": studies(), "label": [0, 1, 0, 1, 0]})
    labelled = vault.select().with_labels(table, on="StudyInstanceUID")
    assert values(labelled, "label") == [0, 0, 0, 0, 1, 1]
    assert labelled.label_report is not None
    assert str(labelled.label_report) == "6 of 6 series labelled"
    assert vault.audit.log(1)[0].kind == Kind.IDENTIFYING_READ
    assert list(labelled.df()["label"].sort_values()) == [0, 0, 0, 0, 1, 1]


def test_every_key_finds_its_series(vault: vv.Vault) -> None:
    rows = vault.select().arrow()
    for key in ("SeriesInstanceUID", "series_id", "study_id", "AccessionNumber", "PatientID", "subject_id"):
        keys = sorted(set(rows[key].to_pylist()))
        table = {key: keys, "n": list(range(len(keys)))}
        labelled = vault.select().with_labels(table, on=key)
        expected = {
            series: keys.index(value)
            for series, value in zip(rows["series_id"].to_pylist(), rows[key].to_pylist(), strict=True)
        }
        assert {series: labelled.labels.of(series)["n"] for series in labelled.series_ids} == expected


@pytest.mark.parametrize(
    "kind", ["pandas", "polars", "arrow", "csv", "semicolons", "tsv", "parquet", "result"]
)
def test_every_kind_of_table(vault: vv.Vault, tmp_path: Path, kind: str) -> None:
    table = pa.table({"StudyInstanceUID": studies(), "grade": ["a", "b", "a", None, "b"]})
    text = table.to_pandas()
    source: object
    if kind in ("csv", "semicolons", "tsv"):
        source = tmp_path / f"labels.{'tsv' if kind == 'tsv' else 'csv'}"
        sep = {"csv": ",", "semicolons": ";", "tsv": "\t"}[kind]
        text.to_csv(source, index=False, sep=sep, encoding="utf-8-sig")
        source = str(source)
    elif kind == "parquet":
        source = tmp_path / "labels.parquet"
        pyarrow.parquet.write_table(table, source)
    elif kind == "result":
        source = vault.sql("select StudyInstanceUID, 'a' as grade from studies")
    else:
        source = {"pandas": text, "polars": pl.from_arrow(table), "arrow": table}[kind]
    labelled = vault.select().with_labels(source, on="StudyInstanceUID")
    expected = ["a"] * 6 if kind == "result" else ["a", "a", "a", "b", "b"]
    assert values(labelled, "grade") == expected


def test_values_keep_their_types(vault: vv.Vault) -> None:
    table = pd.DataFrame(
        {
            "StudyInstanceUID": studies(),
            "whole": [1, 2, 3, 4, 5],
            "part": [0.5, 1.0, np.nan, 2.0, 3.0],
            "flag": [True, False, True, True, True],
            "word": pd.Categorical(["x", "y", "x", "x", "x"]),
            "day": pd.to_datetime(["2020-01-02"] * 5),
        }
    )
    labels = vault.select().with_labels(table, on="StudyInstanceUID").labels
    first = next(row for row in labels.rows.values() if row["whole"] == 1)
    assert first == {"whole": 1, "part": 0.5, "flag": True, "word": "x", "day": "2020-01-02T00:00:00"}
    assert [type(first[name]) for name in ("whole", "part", "flag", "word")] == [int, float, bool, str]
    missing = next(row for row in labels.rows.values() if row["whole"] == 3)
    assert "part" not in missing


@pytest.mark.parametrize("header", ["studyinstanceuid", "Study Instance UID", "study_uid"])
def test_case_and_delimiter_of_a_file_do_not_matter(vault: vv.Vault, tmp_path: Path, header: str) -> None:
    rows = "".join(f"{uid};1;{number}\n" for number, uid in enumerate(studies()))
    (tmp_path / "semi.csv").write_text(f"{header};label;patient\n{rows}")
    labelled = vault.select().with_labels(tmp_path / "semi.csv", on="StudyInstanceUID")
    assert (values(labelled, "label"), labelled.labels.columns) == ([1] * 6, ("label",))
    with pytest.raises(UsageError, match="it has StudyInstanceUID, PatientID: say so by on="):
        vault.select().with_labels(tmp_path / "semi.csv")
    (tmp_path / "semi.csv").write_text(f"studyUID;label;study-uid\n{rows}")
    with pytest.raises(UsageError, match="2 columns are spelt like StudyInstanceUID"):
        vault.select().with_labels(tmp_path / "semi.csv", on="StudyInstanceUID")


def test_a_key_column_of_any_name_is_told_what_it_holds(vault: vv.Vault, tmp_path: Path) -> None:
    rows = "".join(f"{uid},1\n" for uid in studies())
    (tmp_path / "odd.csv").write_text(f"study,label\n{rows}")
    table = read_label_table(tmp_path / "odd.csv", on="study")
    assert values(vault.select().with_labels(table, on="StudyInstanceUID"), "label") == [1] * 6
    for on in (None, "study"):
        with pytest.raises(
            UsageError, match="doesn't tell what it holds: say it as well, such as with_labels"
        ):
            vault.select().with_labels(table, on=on)


def test_leading_zeros_of_a_csv_stay(vault: vv.Vault, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("PatientID,label\n007,1\nP0,1\n")
    labelled = vault.select().with_labels(tmp_path / "p.csv", on="PatientID")
    assert labelled.label_report is not None
    assert labelled.label_report.unmatched == ("007",)


@pytest.mark.parametrize("key", ["AccessionNumber", "PatientID"])
def test_every_key_of_a_text_file_stays_text(tmp_path: Path, key: str) -> None:
    with made(tmp_path) as vault:
        for number, value in enumerate(("42", "0042")):
            put(vault, tmp_path / str(number), number, person(number, **{key: value}))
        (tmp_path / "p.csv").write_text(f"{key};score;site\n0042;7;01\n42;8;02\n", encoding="utf-16")
        labelled = vault.select().with_labels(tmp_path / "p.csv", on=key)
        found = dict(
            zip(labelled.arrow()[key].to_pylist(), labelled.arrow()["score"].to_pylist(), strict=True)
        )
        assert found == {"0042": 7, "42": 8}
        assert values(labelled, "site") == ["01", "02"]


def test_columns_that_name_people_are_no_labels_unless_named(vault: vv.Vault) -> None:
    names = [f"PLANTED{number}" for number in range(MANY)]
    table = {
        "StudyInstanceUID": studies(),
        "patient_name": names,
        "PATIENTBIRTHDATE": names,
        "grade": "abaab",
    }
    table["grade"] = list(table["grade"])
    labelled = vault.select().with_labels(table, on="StudyInstanceUID")
    assert labelled.labels.columns == ("grade",)
    report = labelled.label_report
    assert report is not None
    assert report.left_out == ("patient_name", "PATIENTBIRTHDATE")
    assert "2 identifying columns left out; columns= takes them" in str(report)
    labelled = vault.select().with_labels(table, on="StudyInstanceUID", columns=["patient_name"])
    assert labelled.labels.columns == ("patient_name",)
    with pytest.raises(UsageError, match="columns="):
        vault.select().with_labels(
            {"StudyInstanceUID": studies(), "PatientName": names}, on="StudyInstanceUID"
        )


def test_pictures_show_labels_that_name_nobody(vault: vv.Vault) -> None:
    who = ["PLANTED^0", "PLANTED^0", "PLANTED^1", "PLANTED^1", "PLANTED^2"]
    table = {
        "StudyInstanceUID": studies(),
        "who": who,
        "note": ["LONGWINDED" * 9] * MANY,
        "site": ["Sitename"] * MANY,
        "score": [0.125] * MANY,
        "hit": [True] * MANY,
    }
    labelled = vault.select().with_labels(table, on="StudyInstanceUID")
    shown = labelled._repr_html_()
    # Two studies of one person have the name; two people never do.
    assert all(word not in shown for word in ("PLANTED", "LONGWINDED"))
    assert all(word in shown for word in ("who", "Sitename", "0.125", "yes"))
    vault.options.identifying = True
    try:
        assert all(word in labelled._repr_html_() for word in ("PLANTED", "LONGWINDED"))
    finally:
        vault.options.identifying = False


def test_two_rows_for_one_key_are_refused_without_naming_it(vault: vv.Vault) -> None:
    table = pd.DataFrame({"StudyInstanceUID": [studies()[0]] * 3, "label": [1, 1, 1]})
    with pytest.raises(UsageError, match="2 rows repeat") as caught:
        vault.select().with_labels(table, on="StudyInstanceUID")
    assert studies()[0] not in str(caught.value)
    # Blanks and padding do not make a key another one.
    table = pd.DataFrame({"StudyInstanceUID": [studies()[0], studies()[0] + " "], "label": [1, 0]})
    with pytest.raises(UsageError, match="1 rows repeat"):
        vault.select().with_labels(table, on="StudyInstanceUID")


def test_what_does_not_fit_is_reported(vault: vv.Vault) -> None:
    table = pd.DataFrame({"StudyInstanceUID": [*studies()[:2], "1.2.3", None, ""], "label": range(5)})
    some = vault.select("PatientID != 'P0' or Modality = 'MR'")
    report = some.with_labels(table, on="StudyInstanceUID").label_report
    assert report is not None
    assert (report.series, report.labelled, report.without_label) == (4, 1, 3)
    assert (report.rows, report.unmatched_rows, report.elsewhere, report.without_key) == (5, 2, 1, 2)
    assert set(report.unmatched) == {studies()[1], "1.2.3"}
    assert studies()[0] not in repr(report) + str(report)
    everyone = vault.select().with_labels(table, on="StudyInstanceUID")
    assert "3 of 6 series labelled; 3 without label" in repr(everyone)
    assert len(everyone) == 6
    assert len(vault.select().with_labels(table, on="StudyInstanceUID", missing="drop")) == 3
    with pytest.raises(UsageError, match=r"3 of 6 series have no label.*; 3 of 5 rows fit no series"):
        vault.select().with_labels(table, on="StudyInstanceUID", missing="raise")


def test_named_columns_are_all_needed(vault: vv.Vault) -> None:
    table = {"StudyInstanceUID": studies(), "bleed": [1, None, 0, 1, 0], "age": [60, 61, None, 63, 64]}

    def left(**options: Sequence[str]) -> vv.Selection:
        found: vv.Selection = vault.select().with_labels(
            table, on="StudyInstanceUID", missing="drop", **options
        )
        return found

    assert len(left()) == 6
    some = left(columns=["bleed"])
    assert (len(some), some.labels.columns) == (5, ("bleed",))
    assert "5 of 6 series labelled; 1 without label" in str(some.label_report)
    assert len(left(columns=["bleed", "age"])) == 4
    everything = left().label_report
    assert everything is not None
    assert everything.by_column == {"bleed": 5, "age": 5}
    assert str(everything) == "6 of 6 series labelled; by column: bleed 5, age 5"
    many = table | {f"finding {number}": [1, None, None, None, None] for number in range(7)}
    told = str(vault.select().with_labels(many, on="StudyInstanceUID").label_report)
    assert told.endswith("finding 2 2, finding 3 2 and 3 more columns")
    rest = some.with_labels(table, on="StudyInstanceUID")
    assert (len(rest), values(rest, "bleed")) == (5, [0, 0, 1, 1, 1])
    assert sum("age" in row for row in rest.labels.rows.values()) == 4
    with pytest.raises(UsageError, match="2 of 6 series have no label"):
        vault.select().with_labels(table, on="StudyInstanceUID", columns=["bleed", "age"], missing="raise")


def test_raising_minds_rows_that_fit_nothing(vault: vv.Vault) -> None:
    everyone = {"StudyInstanceUID": studies(), "label": [1] * MANY}
    assert len(vault.select("PatientID = 'P0'").with_labels(everyone, on="StudyInstanceUID", missing="raise"))
    one_more = {"StudyInstanceUID": [*studies(), "1.2.3"], "label": [1] * (MANY + 1)}
    with pytest.raises(UsageError, match=f"^1 of {MANY + 1} rows fit no series of this vault") as caught:
        vault.select().with_labels(one_more, on="StudyInstanceUID", missing="raise")
    assert "1.2.3" not in str(caught.value)
    assert "series have no label" not in str(caught.value)
    sops = [synthetic.uid(number, 1, at) for number in range(2) for at in (1, 2)]
    by_instance = {"SOPInstanceUID": [*sops, "1.2.3"], "bleeds": [0, 1, 1, 1, 1]}
    first = vault.select([synthetic.uid(0, 1)])
    report = first.with_labels(by_instance, on="SOPInstanceUID").label_report
    assert report is not None
    assert (report.unmatched_rows, report.elsewhere) == (3, 2)


def test_a_table_of_which_nothing_fits_is_refused(vault: vv.Vault) -> None:
    series = [synthetic.uid(at, 1) for at in range(2)]
    table = pd.DataFrame({"StudyInstanceUID": series, "SeriesInstanceUID": series, "label": [1, 0]})
    for missing in ("report", "drop", "raise"):
        with pytest.raises(UsageError, match="none of 2 rows fits any of 6 series by Study") as caught:
            vault.select().with_labels(table, on="StudyInstanceUID", missing=missing)
        assert "the table has SeriesInstanceUID, too" in str(caught.value)
        assert not [uid for uid in series if uid in str(caught.value)]
    assert vault.select().with_labels(table).label_report is not None
    with pytest.raises(UsageError, match="2 fit series outside of the selection"):
        vault.select("Modality = 'MR'").with_labels(table)
    with pytest.raises(UsageError, match="2 have no key"):
        vault.select().with_labels({"PatientID": [None, ""], "label": [1, 0]}, on="PatientID")
    nobody = vault.select("false").with_labels(table)
    assert len(nobody) == 0


def test_empty_tables_and_unusual_ones(vault: vv.Vault, tmp_path: Path) -> None:
    none = pd.DataFrame({"StudyInstanceUID": [], "label": []})
    empty = vault.select().with_labels(none, on="StudyInstanceUID")
    assert empty.label_report is not None
    assert empty.label_report.without_label == 6
    assert empty.labels.columns == ("label",)
    uids = {"StudyInstanceUID": studies()}
    for table, match in (
        (pd.DataFrame(uids), "the table has no column of labels beside keys"),
        (pd.DataFrame({**uids, "label": [[1]] * MANY}), "more than numbers"),
        (
            pd.DataFrame({"uid": studies(), "label": 1}),
            "no column 'StudyInstanceUID'; rename its key column so$",
        ),
        (pd.DataFrame({**uids, "label": [1, "x", object(), 2, 3]}), "mixed or unusual"),
        (
            pd.DataFrame({"StudyInstanceUID": studies()[:1] * 2, "label": 1}),
            "1 rows repeat .*; keep one row each, or",
        ),
        (7, "pass a pandas"),
    ):
        with pytest.raises(UsageError, match=match):
            vault.select().with_labels(table, on="StudyInstanceUID")
    for options, match in (
        ({"on": "PatientName"}, "joined on"),
        ({"on": "StudyInstanceUID", "missing": "ignore"}, "missing="),
        ({"on": "StudyInstanceUID", "reduce": "median"}, "reduce="),
        ({"on": "StudyInstanceUID", "columns": ["other"]}, "no column 'other'"),
    ):
        with pytest.raises(UsageError, match=match):
            vault.select().with_labels(pd.DataFrame({**uids, "label": 1}), **options)
    (tmp_path / "x.xlsx").write_bytes(b"")
    with pytest.raises(UsageError, match=r"\.csv"):
        vault.select().with_labels(tmp_path / "x.xlsx")
    for name in ("none.csv", "none.parquet"):
        with pytest.raises(UsageError, match="there is no such file"):
            vault.select().with_labels(tmp_path / name)
    (tmp_path / "x.parquet").write_bytes(b"PLANTED")
    with pytest.raises(UsageError, match="no table"):
        vault.select().with_labels(tmp_path / "x.parquet")


def test_a_patient_id_of_several_people_is_refused(tmp_path: Path) -> None:
    with made(tmp_path) as vault:
        write(tmp_path / "in", 1, person(1, PatientSex="F"))
        write(tmp_path / "in", 2, person(1, PatientSex="M"))
        write(tmp_path / "in", 3, person(3))
        vault.ingest(tmp_path / "in", progress=False)
        table = pd.DataFrame({"PatientID": ["P1", "P3"], "label": [1, 0]})
        with pytest.raises(AmbiguousUID, match="1 values of PatientID mean several subjects") as caught:
            vault.select().with_labels(table, on="PatientID")
        assert "P1" not in str(caught.value)
        # Also where only one of the two is selected.
        with pytest.raises(AmbiguousUID):
            vault.select("PatientSex = 'F'").with_labels(table, on="PatientID")
        assert len(vault.select().with_labels(table[1:], on="PatientID", missing="drop")) == 1


def test_after_a_merge_both_names_of_a_person_find_the_series(tmp_path: Path) -> None:
    with made(tmp_path) as vault:
        write(tmp_path / "in", 1, person(1))
        write(tmp_path / "in", 2, person(2))
        vault.ingest(tmp_path / "in", progress=False)
        old = subject(vault, "P1")
        vault.merge_subjects(old, subject(vault, "P2"))
        for key, value in (("PatientID", "P1"), ("PatientID", "P2"), ("subject_id", old)):
            labelled = vault.select().with_labels({key: [value], "label": [1]}, on=key)
            assert values(labelled, "label") == [1, 1]
        both = {"PatientID": ["P1", "P2"], "label": [1, 1]}
        assert values(vault.select().with_labels(both, on="PatientID"), "label") == [1, 1]
        with pytest.raises(UsageError, match="one subject since a merge"):
            vault.select().with_labels({**both, "label": [1, 0]}, on="PatientID")


def test_labels_by_instance(vault: vv.Vault) -> None:
    sops = [synthetic.uid(number, 1, at) for number in range(2) for at in (1, 2)]
    table = pd.DataFrame({"SOPInstanceUID": sops, "bleeds": [0, 1, 1, 1]})
    ct = vault.select("Modality = 'CT'")
    labelled = ct.with_labels(table, on="SOPInstanceUID")
    assert values(labelled, "bleeds") == [1]
    assert labelled.label_report is not None
    assert labelled.label_report.differing == 1
    most = ct.with_labels(table, on="SOPInstanceUID", reduce="max").labels
    assert sorted(row["bleeds"] for row in most.rows.values()) == [1, 1]
    mean = ct.with_labels(table, on="SOPInstanceUID", reduce="mean").labels
    assert sorted(row["bleeds"] for row in mean.rows.values()) == [0.5, 1.0]
    series = vault.select([synthetic.uid(0, 1)]).series_ids[0]
    with vault.series(synthetic.uid(0, 1)) as opened:
        per_slice = [most.of(series, instance)["bleeds"] for instance, _ in opened.members()]
    assert per_slice == [0, 1]
    words = table.assign(bleeds=["a", "b", "c", "d"])
    with pytest.raises(UsageError, match="no mean"):
        ct.with_labels(words, on="SOPInstanceUID", reduce="mean")


def test_labels_of_combined_selections(vault: vv.Vault) -> None:
    uids = {"StudyInstanceUID": studies()}
    one = vault.select().with_labels({**uids, "label": [1] * MANY}, on="StudyInstanceUID")
    more = one.with_labels({**uids, "site": ["x"] * MANY}, on="StudyInstanceUID")
    assert more.labels.columns == ("label", "site")
    other = vault.select().with_labels({**uids, "label": [2] * MANY}, on="StudyInstanceUID")
    with pytest.raises(UsageError, match="different labels"):
        one & other
    assert (one - other.sample(2)).labels.columns == ("label",)
    assert len((one & vault.select("Modality = 'CT'")).labels.rows) == MANY
