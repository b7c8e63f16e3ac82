"""What passes between the steps: a study, the gate's verdict, what is prepared, what is found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from voxelvault.series import Series


@dataclass(frozen=True, slots=True)
class Study:
    """One study as it was when it was read.

    Parameters
    ----------
    study_id, subject_id : str
        The vault's random ids.
    StudyInstanceUID : str
        As in the header.
    content : str
        SHA-256, hexadecimal, over the sorted digests of its instances; results of pipelines left out.
        The same content is analysed once by the same pipeline and model.
    """

    study_id: str
    subject_id: str
    StudyInstanceUID: str
    content: str


class Verdict(StrEnum):
    """What an analysis says; a study that doesn't fit is `NOT_ANALYSED`, never `NEGATIVE`."""

    POSITIVE = "positive"
    NEGATIVE = "negative"
    NOT_ANALYSED = "not-analysed"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a study is not analysed.

    Parameters
    ----------
    code : str
        A word of the pipeline's closed set, such as ``thickness``.
    sentence : str
        For people; names nobody.
    """

    code: str
    sentence: str


def sentences(reasons: Iterable[Reason]) -> str:
    """Return several reasons as one line, told apart by semicolons."""
    *others, last = [one.sentence for one in reasons] or [""]
    return "; ".join([*(one.removesuffix(".") for one in others), last])


@dataclass(frozen=True, slots=True)
class Gated:
    """The input gate's verdict: the series to analyse, or why there is none.

    Parameters
    ----------
    SeriesInstanceUID : str or None
        None where nothing fits.
    stack : int
        Which stack of the series.
    reasons : tuple of Reason
        One at least where nothing fits; else empty.
    opened : Series or None
        The series, where the gate left it open for what comes next: who asked the gate closes it.
    """

    SeriesInstanceUID: str | None
    stack: int = 0
    reasons: tuple[Reason, ...] = ()
    opened: Series | None = field(default=None, repr=False, compare=False)

    @property
    def fit(self) -> bool:
        """True where there is a series to analyse."""
        return self.SeriesInstanceUID is not None


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """What a model found in one series.

    Parameters
    ----------
    score : float
        Calibrated probability, 0 to 1.
    threshold : float
        At and above which a study is flagged.
    types : mapping of str to float
        Score of each type, such as ``subdural``; may be empty.
    mask : (slice, row, column) bool
        On the grid of the source series' stack, in its order of frames.
    volume_ml : float
        Of the mask, in millilitres.
    uncertainty : float
        Disagreement of an ensemble: standard deviation of its members' scores; 0 for a single model.
    key_frame : int
        Index of the slice that shows it best, in the order of frames.
    """

    score: float
    threshold: float
    types: Mapping[str, float]
    mask: npt.NDArray[np.bool_]
    volume_ml: float
    uncertainty: float = 0.0
    key_frame: int = 0

    @property
    def flagged(self) -> bool:
        """True at and above the threshold."""
        return self.score >= self.threshold


@dataclass(frozen=True, slots=True, eq=False)
class Analysis:
    """What came of one study, one pipeline and one model.

    Parameters
    ----------
    study : Study
        What was analysed.
    pipeline, version : str
        Name by entry point, and its version.
    model : str
        SHA-256 of the model, hexadecimal; empty where a pipeline has none.
    model_name : str
        Its name and version, for people.
    gated : Gated
        What the gate said.
    finding : Finding or None
        None where the study is not analysed.
    seconds : mapping of str to float
        By step: ``gate``, ``prepare``, ``infer``, ``results``.
    """

    study: Study
    pipeline: str
    version: str
    model: str
    gated: Gated
    finding: Finding | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    model_name: str = ""

    @property
    def verdict(self) -> Verdict:
        """Return what the analysis says."""
        if self.finding is None:
            return Verdict.NOT_ANALYSED
        return Verdict.POSITIVE if self.finding.flagged else Verdict.NEGATIVE
