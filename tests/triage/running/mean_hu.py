"""A real pipeline, small enough for tests: the mean of a CT in HU; and models that are one number."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from voxelvault import Vault
from voxelvault.series import Series
from voxelvault_triage.model import Finding, Gated, Reason, Study
from voxelvault_triage.pipeline import Arrays, Model


@dataclass(frozen=True)
class Threshold:
    """A model that is one number, HU, and answers with the mean over it."""

    number: float = 0.0

    @property
    def digest(self) -> str:
        return f"{round(self.number * 1000):064x}"

    @property
    def name(self) -> str:
        return "threshold 1"

    @property
    def demonstration(self) -> bool:
        return True

    @property
    def card(self) -> Mapping[str, Any]:
        return {"name": "threshold", "version": "1", "demonstration": True}

    def run(self, inputs: Arrays) -> Arrays:
        return {"over": np.float32([inputs["mean"].item() > self.number])}

    def load(self) -> Model:
        return self


@dataclass(frozen=True)
class MeanHU:
    """Flags a CT whose mean is above the model's threshold; a marker in the image makes it misbehave."""

    name: str = "mean-hu"
    version: str = "1.0"
    model: str | None = None
    pause: float = 0.0

    def gate(self, vault: Vault, study: Study) -> Gated:
        rows = vault.resources.catalog.query(
            "select SeriesInstanceUID from series s where study_id = $id and Modality = 'CT' and exists"
            " (from instances i where i.series_id = s.series_id and i.origin is null) order by 1 limit 1",
            {"id": study.study_id},
        )["SeriesInstanceUID"].to_pylist()
        return Gated(rows[0]) if rows else Gated(None, reasons=(Reason("modality", "There is no CT."),))

    def prepare(self, series: Series, stack: int) -> Any:
        return series.load(stack)

    def infer(self, prepared: Any, model: Model | None) -> Finding:
        time.sleep(self.pause)
        misbehave(float(prepared[0, 0, 0]))
        mean = np.float32(np.nanmean(prepared))
        over = float(model.run({"mean": mean[None]})["over"][0]) if model else float(mean > 0)
        mask = prepared > 500
        return Finding(0.9 if over else 0.1, 0.5, {}, mask, float(mask.sum()) / 1000)


RAISES, DIES, HANGS = 1111.0, 2222.0, 3333.0
"""First voxel, HU, of studies that do."""


def misbehave(voxel: float) -> None:
    if voxel == RAISES:
        raise ValueError("Doe^Jane could not be analysed")
    if voxel == DIES:
        os._exit(9)
    if voxel == HANGS:
        time.sleep(3600)
