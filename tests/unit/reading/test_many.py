"""Many series under one handle: one entry, the same volumes as one by one, nothing that is gone."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import voxelvault as vv
from voxelvault.catalog.catalog import Change
from voxelvault.dicom.read import Header
from voxelvault.errors import AuditError, PolicyDenied, UnknownUID
from voxelvault.policy.access import Decision
from voxelvault.reading import many as room
from voxelvault.reading.frame_table import FRAME_COLUMNS, Same, frame_table
from voxelvault.reading.headers import PackHeaders
from voxelvault.reading.many import open_many
from voxelvault.series import series_of
from voxelvault.testing import synthetic


def series_ids(vault: vv.Vault) -> list[str]:
    return [
        row["series_id"] for row in vault.resources.catalog.query("select series_id from series").to_pylist()
    ]


def entries(vault: vv.Vault) -> list[Any]:
    return list(vault.resources.audit.entries())


def test_one_decision_one_entry_and_the_volumes_of_each(vault: vv.Vault, uids: dict[str, str]) -> None:
    before, asked = len(entries(vault)), []
    ids = series_ids(vault)

    class Asked:
        def decide(self, request: Any) -> Decision:
            asked.append(request)
            return Decision(True, "asked")

    object.__setattr__(vault.resources, "policy", Asked())
    opened = open_many(vault.resources, [*ids, ids[0]], kind_code="loader")
    assert opened.series_ids == tuple(ids)
    (event,) = entries(vault)[before:]
    assert (len(asked), asked[0].object_ids) == (1, tuple(ids))
    digests = vault.resources.catalog.query("select sha256 from instances order by sha256")[
        "sha256"
    ].to_pylist()
    assert event.digests["members"] == hashlib.sha256("".join(digests).encode()).hexdigest()
    assert event.counts["members"] == len(digests)
    assert event.codes["type"] == ("loader",)
    assert set(event.ids["series"]) == set(ids)
    for series_id in ids:
        source = opened.series(series_id)
        assert source is opened.series(series_id)
        for stack in source.stacks:
            got = opened.reader(series_id).load(stack)
            with vault.series(source.row["SeriesInstanceUID"]) as one:
                np.testing.assert_array_equal(got, one.load(stack.label))
    opened.close()
    closing = entries(vault)[-1]
    assert (closing.action, closing.codes["type"]) == (event.action, ("loader",))
    assert closing.counts["frames"] == sum(len(s.refs) for i in ids for s in opened.series(i).stacks)
    with pytest.raises(PolicyDenied, match="closed"):
        opened.reader(ids[0]).load(opened.series(ids[0]).stacks[0])


def test_a_cohort_is_named_instead_of_its_series(vault: vv.Vault) -> None:
    open_many(vault.resources, series_ids(vault), kind_code="cohort", cohort_id="c" * 32)
    event = entries(vault)[-1]
    assert dict(event.ids) == {"cohort": ("c" * 32,)}


def test_more_series_than_an_entry_holds(vault: vv.Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "NAMED", 2)
    before = len(entries(vault))
    opened = open_many(vault.resources, series_ids(vault), kind_code="loader")
    first, second = entries(vault)[before:]
    assert first.action == second.action
    assert {*first.ids["series"], *second.ids["series"]} == set(series_ids(vault))
    opened.close()
    assert entries(vault)[-1].action == first.action


def test_nothing_and_the_unknown(vault: vv.Vault) -> None:
    assert len(open_many(vault.resources, [], kind_code="loader")) == 0
    for wrong in ("f" * 32, "') or true --"):
        with pytest.raises(UnknownUID, match="1 of 4"):
            open_many(vault.resources, [*series_ids(vault), wrong], kind_code="loader")


def test_no_entry_no_access(vault: vv.Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(events: Any) -> None:
        raise AuditError("full")

    monkeypatch.setattr(vault.resources.audit, "append", fail)
    with pytest.raises(AuditError):
        open_many(vault.resources, series_ids(vault), kind_code="loader")


def test_superseded_instances_are_left_out(vault: vv.Vault) -> None:
    query = vault.resources.catalog.query
    row = query("select instance_id, series_id from instances order by instance_id limit 1").to_pylist()[0]
    count = len(
        open_many(vault.resources, [row["series_id"]], kind_code="loader").series(row["series_id"]).frames
    )
    change = pa.Table.from_pylist([{"instance_id": row["instance_id"], "superseded": True}])
    vault.resources.catalog.commit([Change("instances", change, "merge")])
    source = open_many(vault.resources, [row["series_id"]], kind_code="loader").series(row["series_id"])
    assert len(source.frames) == count - 1
    assert row["instance_id"] not in [item["instance_id"] for item in source.instances]


def test_a_source_travels_small_and_whole(vault: vv.Vault) -> None:
    opened = open_many(vault.resources, series_ids(vault), kind_code="loader")
    for series_id in opened.series_ids:
        source = opened.series(series_id)
        again = pickle.loads(pickle.dumps(source))
        assert (again.series_id, again.study_id, again.subject_id) == (
            source.series_id,
            source.study_id,
            source.subject_id,
        )
        for one, other in zip(again.stacks, source.stacks, strict=True):
            assert (one.label, one.refs, one.attributes) == (other.label, other.refs, other.attributes)
        assert series_id in repr(source)
        assert str(source.row["SeriesInstanceUID"]) not in repr(source)


def test_a_series_out_of_many(vault: vv.Vault, uids: dict[str, str]) -> None:
    opened = open_many(vault.resources, series_ids(vault), kind_code="cohort")
    found = {s.uid: s for s in (series_of(vault.resources, opened, i) for i in opened.series_ids)}
    with vault.series(uids["CT"]) as one:
        np.testing.assert_array_equal(found[uids["CT"]].load(), one.load())
        assert found[uids["CT"]].members() == one.members()


def test_headers_of_all_slices_take_one_query(
    vault: vv.Vault, uids: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with vault.series(uids["CT"]) as series:
        one_by_one = [series.header(number, stack=0) for number in range(len(series.members(0)))]
    with vault.series(uids["CT"]) as series:
        asked: list[str] = []
        query = vault.resources.catalog.query

        def counted(sql: str, *rest: Any) -> pa.Table:
            asked.append(sql)
            return query(sql, *rest)

        monkeypatch.setattr(vault.resources.catalog, "query", counted)
        assert series.headers(0) == one_by_one
        assert len(asked) == 1
    with pytest.raises(PolicyDenied):
        series.headers(0)


def test_headers_of_packs_are_those_of_the_catalog(vault: vv.Vault, tmp_path: Path) -> None:
    for number, data in enumerate(synthetic.every_kind().values()):
        (tmp_path / f"kind-{number}.dcm").write_bytes(data)
    vault.ingest(*tmp_path.glob("kind-*.dcm"), progress=False)
    opened = open_many(vault.resources, series_ids(vault), kind_code="loader")
    compared = 0
    for row in vault.resources.catalog.query(
        "select instance_id, pack_id, header from instances"
    ).to_pylist():
        header = PackHeaders(opened.packs, {row["instance_id"]: row["pack_id"]}).header(row["instance_id"])
        want = Header.from_json(row["header"])
        # Bulk data is left out of both, and what follows the pixels is not read for a header.
        for tag in want:
            if tag < "7FE00008" and "BulkDataURI" not in want[tag]:
                assert header[tag] == want[tag], tag
                compared += 1
    assert compared > 1000


def test_columns_with_one_value_are_kept_once() -> None:
    rows = pa.table(
        {
            **{name: [None, None, None] for name in ("pack_id", "stack", "frame", "instance_id")},
            **{name: [None, None, None] for name in FRAME_COLUMNS},
            "FrameNumber": [1, 2, 3],
            "ImagePositionPatient": pa.array(
                [[0.0, 0.0, 1.0], None, [0.0, 0.0, 3.0]], pa.list_(pa.float64())
            ),
            "PixelSpacing": pa.array([[0.5, 0.5]] * 3, pa.list_(pa.float64())),
            "RescaleSlope": [1.0, 1.0, 1.0],
            "RescaleIntercept": [0.0, float("nan"), float("nan")],
        }
    )
    table = frame_table(rows.slice(1, 2))
    assert table.columns["PixelSpacing"] == Same((0.5, 0.5))
    assert table.columns["ImagePositionPatient"] == [None, (0.0, 0.0, 3.0)]
    assert [frame.frame for frame in table.attributes()] == [1, 2]
    assert len(table.columns["RescaleIntercept"]) == 2  # type: ignore[arg-type]
