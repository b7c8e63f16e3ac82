"""The pipeline `head-ct-hemorrhage`: gate, preparation, network and score of a plain head CT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from voxelvault import Vault
from voxelvault.errors import UsageError
from voxelvault.series import Series
from voxelvault_triage.hemorrhage.choosing import NAME, choose
from voxelvault_triage.model import Finding, Gated, Study
from voxelvault_triage.models.calibration import calibrator
from voxelvault_triage.pipeline import Arrays, Model

if TYPE_CHECKING:
    from voxelvault_triage.hemorrhage.preprocess import Prepared


class HeadCtHemorrhage:
    """Looks for blood in a head CT without contrast agent. A demonstration, not a medical device."""

    name = NAME
    version = "1.0.0"
    model: str | None = "head-ct-hemorrhage"

    def gate(self, vault: Vault, study: Study) -> Gated:
        """Choose the series that is read first among those that fit, or say why there is none."""
        return choose(vault, study)

    def prepare(self, series: Series, stack: int) -> Prepared:
        """Bring the head to the network's grid, by the slices' true places: tilted or uneven."""
        from voxelvault_triage.hemorrhage.preprocess import AIR, prepare_volume
        from voxelvault_triage.planes import Planes

        group: Any = series.geometry(stack)
        hu = series.load(stack, dtype=np.float32)
        hu[np.isnan(hu)] = AIR
        across, down = np.asarray(group.orientation[:3]), np.asarray(group.orientation[3:])
        return prepare_volume(hu, Planes(group.positions, across, down, group.pixel_spacing))

    def example_inputs(self) -> Arrays:
        """Return one plane of air as the network gets it."""
        from voxelvault_triage.hemorrhage.preprocess import AIR, COLUMNS, ROWS, channels
        from voxelvault_triage.hemorrhage.scoring import INPUT

        return {INPUT: channels(np.full((1, ROWS, COLUMNS), AIR, np.float32))}

    def infer(self, prepared: Prepared, model: Model | None) -> Finding:
        """Run the network and say what it marks, with the model's own calibration and threshold.

        Raises
        ------
        UsageError
            There is no model, or its card has no calibration that could be one.
        """
        from voxelvault_triage.hemorrhage.scoring import TOP, infer_volume

        if model is None:
            raise UsageError("this pipeline takes a model; `triage models list` shows what is installed")
        card = model.card
        curve = calibrator(card["calibration"])
        return infer_volume(prepared, model.run, curve, card["threshold"], card.get("pixels") or TOP)


__all__ = ["HeadCtHemorrhage"]
