"""Measurements of a waveform that may not stay are removed: no number stands in for one."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from deid_support import image, reread, rewritten
from voxelvault.deid.model import Option

ECGS = [f"1.2.840.10008.5.1.4.1.1.9.{kind}" for kind in ("1.1", "1.2", "1.3", "1.4", "2.1", "5.1", "7.1")]


def annotated(sop_class: str) -> Dataset:
    item = Dataset()
    item.AnnotationGroupNumber, item.NumericValue = 1, "57"
    item.ReferencedWaveformChannels = [1, 0]
    item.TemporalRangeType, item.ReferencedSamplePositions = "POINT", [312]
    source = image(sop_class)
    source.WaveformAnnotationSequence = Sequence([item])
    return reread(source)


@pytest.mark.parametrize("sop_class", ECGS)
@pytest.mark.parametrize("preset", ["basic", "research"])
def test_no_measurement_is_made_up(sop_class: str, preset: str) -> None:
    assert "WaveformAnnotationSequence" not in rewritten(annotated(sop_class), preset=preset).dataset


def test_measurements_are_kept_where_somebody_chose_so() -> None:
    made = rewritten(annotated(ECGS[0]), options=[Option.CLEAN_STRUCTURED]).dataset
    kept = made.WaveformAnnotationSequence[0]
    assert (kept.NumericValue, kept.ReferencedSamplePositions) == (57, 312)
