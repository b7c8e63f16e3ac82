"""What a released object says of its de-identification."""

from __future__ import annotations

from deid_support import image, reread, rewritten
from voxelvault.deid.conformance import METHOD, mark


def test_only_what_was_done_is_said() -> None:
    source = image()
    source.BurnedInAnnotation = "YES"
    result = rewritten(reread(source))
    mark(result, {"113100", "113105", "113107"})
    out = result.dataset
    assert out.PatientIdentityRemoved == "YES"
    assert [item.CodeValue for item in out.DeidentificationMethodCodeSequence] == [
        "113100",
        "113105",
        "113107",
    ]
    assert out.LongitudinalTemporalInformationModified == "MODIFIED"
    assert out.BurnedInAnnotation == "YES"
    assert "RecognizableVisualFeatures" not in out


def test_pixels_and_faces_are_said_when_done() -> None:
    result = rewritten(reread(image()))
    mark(result, {"113100", "113101", "113102", "113106"})
    assert result.dataset.BurnedInAnnotation == "NO"
    assert result.dataset.RecognizableVisualFeatures == "NO"
    assert result.dataset.LongitudinalTemporalInformationModified == "UNMODIFIED"


def test_an_earlier_method_stays_beside_ours() -> None:
    source = image()
    source.DeidentificationMethod = "earlier"
    result = rewritten(reread(source), known=["earlier"])
    mark(result, result.applied)
    mark(result, result.applied)
    assert list(result.dataset.DeidentificationMethod) == ["earlier", METHOD]
    assert len(result.dataset.DeidentificationMethodCodeSequence) == 3
