"""A key ring in memory and what an ingest commits."""

from __future__ import annotations

import secrets
from typing import Any

import pyarrow as pa

from voxelvault.catalog.catalog import Change
from voxelvault.crypto.key_tree import Role
from voxelvault.crypto.wrap import derive
from voxelvault.errors import KeyUnavailable
from voxelvault.model import new_id

TYPED = {
    "patients": {"PatientID": "VARCHAR", "PatientName": "VARCHAR", "PatientBirthDate": "DATE"},
    "series": {"SeriesInstanceUID": "VARCHAR", "Modality": "VARCHAR"},
    "instances": {"SOPInstanceUID": "VARCHAR", "InstanceNumber": "INTEGER"},
}


class MemoryKeys:
    """Keys that are durable only once committed, like the key ring's."""

    def __init__(self) -> None:
        self.vault_id = new_id()
        self.staged: dict[str, tuple[Role, bytes]] = {}
        self.durable: dict[str, tuple[Role, bytes]] = {}

    def new_key(self, role: Role) -> str:
        key_id = new_id()
        self.staged[key_id] = (role, secrets.token_bytes(32))
        return key_id

    def dek(self, key_id: str) -> bytes:
        try:
            return {**self.durable, **self.staged}[key_id][1]
        except KeyError:
            raise KeyUnavailable(f"no key {key_id}: it was destroyed") from None

    def sub_key(self, key_id: str, label: str) -> bytes:
        return derive(self.dek(key_id), label)

    def keys_of(self, role: Role) -> list[str]:
        return [key_id for key_id, (r, _) in {**self.durable, **self.staged}.items() if r == role]

    def commit(self) -> None:
        self.durable |= self.staged
        self.staged = {}

    def refresh(self) -> None:
        """Nobody else makes keys here."""

    def destroy(self, key_ids: tuple[str, ...]) -> None:
        for key_id in key_ids:
            self.durable.pop(key_id, None)


def rows(**columns: Any) -> pa.Table:
    return pa.table(columns)


def patient(subject_id: str, name: str = "DOE^JANE") -> Change:
    return Change("patients", rows(subject_id=[subject_id], PatientName=[name], provisional=[False]))


def pack(subject_id: str, instances: int = 3, pack_id: str | None = None) -> list[Change]:
    """Everything that one ingest of a series commits."""
    pack_id = pack_id or new_id()
    study, series = pack_id[::-1], pack_id[1:] + pack_id[:1]
    ids = [f"{pack_id[:28]}{i:04x}" for i in range(instances)]
    shared = {
        "pack_id": [pack_id] * instances,
        "series_id": [series] * instances,
        "study_id": [study] * instances,
        "subject_id": [subject_id] * instances,
    }
    return [
        Change("studies", rows(study_id=[study], subject_id=[subject_id])),
        Change(
            "series", rows(series_id=[series], study_id=[study], subject_id=[subject_id], Modality=["CT"])
        ),
        Change("packs", rows(pack_id=[pack_id], series_id=[series], subject_id=[subject_id]), "insert"),
        Change(
            "instances",
            rows(instance_id=ids, **shared, header=['{"00080060":{"vr":"CS","Value":["CT"]}}'] * instances),
            "insert",
        ),
        Change(
            "stacks",
            rows(pack_id=[pack_id], stack=[0], frames=[instances], rows=[512], columns=[512]),
            "insert",
        ),
        Change(
            "frames",
            rows(
                **shared,
                stack=[0] * instances,
                frame=list(range(instances)),
                instance_id=ids,
                ImagePositionPatient=[[0.0, 0.0, float(i)] for i in range(instances)],
            ),
            "insert",
        ),
    ]
