"""What a model reaches on studies it has not seen, the brightness rule beside it; no threshold moves."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from voxelvault_triage.hemorrhage.brightness import brightness
from voxelvault_triage.hemorrhage.preprocess import prepare_volume
from voxelvault_triage.hemorrhage.scoring import TOP, evidence, logits, sigmoid
from voxelvault_triage.merit import (
    Figure,
    Proportion,
    auc,
    auc_interval,
    brier,
    expected_error,
    predictive_value,
    reliability,
)
from voxelvault_triage.models.calibration import PLATT, calibrator, curve_of, fit, threshold_for
from voxelvault_triage.notice import DEMONSTRATION
from voxelvault_triage.phantom.bleeds import KINDS
from voxelvault_triage.phantom.implant import Host, implant
from voxelvault_triage.phantom.study import SHIFTED
from voxelvault_triage.pipeline import Arrays
from voxelvault_triage.training.dataset import Sample

Run = Callable[[Arrays], Arrays]

VOLUMES = (0.0, 2.0, 10.0, 30.0, float("inf"))
TILTS = (0.0, 5.0, 15.0, 90.0)
PREVALENCES = (0.05, 0.1, 0.2)


@dataclass(frozen=True, slots=True)
class Scored:
    """One study, scored.

    Parameters
    ----------
    positive : bool
        Its truth.
    logit : float
        The network's own evidence.
    bright : float
        The brightness rule's millilitres.
    volume_ml : float
        What the network marks.
    truth : mapping
        As in `Sample.truth`.
    """

    positive: bool
    logit: float
    bright: float
    volume_ml: float
    truth: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Operating:
    """What was fixed on the validation set.

    Parameters
    ----------
    slope, intercept : float
        From the logit to a probability.
    threshold : float
        Of that probability.
    bright : float
        Millilitres at and above which the brightness rule flags.
    pixels : int
        As `evidence` takes it.
    """

    slope: float
    intercept: float
    threshold: float
    bright: float
    pixels: int = TOP

    @property
    def calibration(self) -> dict[str, Any]:
        """As a bundle's card has it."""
        return {"kind": PLATT, "slope": self.slope, "intercept": self.intercept}

    def probability(self, logit: float) -> float:
        """Return the calibrated probability of the network's logit."""
        return calibrator(self.calibration)(float(sigmoid(logit)))

    @classmethod
    def of_metadata(cls, said: Mapping[str, Any]) -> Operating:
        """Read a bundle's configs/metadata.json."""
        own = said["voxelvault"]
        calibration = own["calibration"]
        bright = own["training"]["validation"]["brightness_threshold_ml"]
        return cls(
            calibration["slope"], calibration["intercept"], own["threshold"], bright, own.get("pixels") or TOP
        )


def score(samples: Iterable[Sample], run: Run, pixels: int = TOP) -> list[Scored]:
    """Run a network and the brightness rule over studies; `pixels` as `evidence` takes it."""
    made = []
    for sample in samples:
        hu = sample.hu.astype(np.float32)
        found = evidence(logits(hu, run), sample.plane_ml, pixels)
        made.append(
            Scored(
                sample.positive, found.study, brightness(hu, sample.plane_ml), found.volume_ml, sample.truth
            )
        )
    return made


def choose(validation: Sequence[Scored], sensitivity: float = 0.9, pixels: int = TOP) -> Operating:
    """Fix calibration and thresholds on studies that were neither trained on nor are tested on."""
    positive = np.array([one.positive for one in validation])
    raw = sigmoid([one.logit for one in validation])
    found = fit(raw, positive)
    threshold = threshold_for(curve_of(found)(raw), positive, sensitivity)
    bright = threshold_for(np.array([one.bright for one in validation]), positive, sensitivity)
    return Operating(found["slope"], found["intercept"], threshold, bright, pixels)


def report(scored: Sequence[Scored], operating: Operating) -> dict[str, Any]:
    """Return all figures of a set, as plain values."""
    positive = np.array([one.positive for one in scored])
    said = np.array([operating.probability(one.logit) for one in scored])
    bright = np.array([one.bright for one in scored])
    flagged = said >= operating.threshold
    table = reliability(said, positive, bins=5)
    whole = _rates(flagged, positive)
    return {
        "studies": len(scored),
        "positives": int(positive.sum()),
        "auc": asdict(auc_interval(said, positive)),
        "threshold": operating.threshold,
        **whole,
        "ppv": {
            str(share): predictive_value(whole["sensitivity"]["value"], whole["specificity"]["value"], share)
            for share in PREVALENCES
        },
        "calibration": {
            "brier": brier(said, positive),
            "expected_error": expected_error(table),
            "bins": [asdict(one) for one in table],
        },
        "by": {
            "type": {str(kind): _sensitivity(flagged, _has(scored, str(kind))) for kind in KINDS},
            "volume_ml": _by_volume(scored, flagged),
            "thickness_mm": _groups(scored, said, flagged, lambda one: f"{one.truth['thickness']:g}"),
            "kernel": _groups(scored, said, flagged, lambda one: str(one.truth["kernel"])),
            "tilt_deg": _groups(scored, said, flagged, lambda one: _between(abs(one.truth["tilt"]), TILTS)),
        },
        "brightness_rule": {
            "auc": asdict(auc_interval(bright, positive)),
            "threshold_ml": operating.bright,
            **_rates(bright >= operating.bright, positive),
        },
        "volume_error_ml": _volume_error(scored),
    }


def _rates(flagged: npt.NDArray[np.bool_], positive: npt.NDArray[np.bool_]) -> dict[str, Any]:
    return {
        "sensitivity": asdict(Proportion.of(flagged[positive]).figure),
        "specificity": asdict(Proportion.of(~flagged[~positive]).figure),
    }


def _sensitivity(flagged: npt.NDArray[np.bool_], members: npt.NDArray[np.bool_]) -> dict[str, Any]:
    return asdict(Proportion.of(flagged[members]).figure)


def _has(scored: Sequence[Scored], kind: str) -> npt.NDArray[np.bool_]:
    return np.array([kind in one.truth["volumes"] for one in scored])


def _by_volume(scored: Sequence[Scored], flagged: npt.NDArray[np.bool_]) -> dict[str, Any]:
    volumes = np.array([sum(one.truth["volumes"].values()) for one in scored])
    positive = np.array([one.positive for one in scored])
    return {
        f"{low:g}-{high:g}": _sensitivity(flagged, positive & (volumes >= low) & (volumes < high))
        for low, high in pairwise(VOLUMES)
    }


def _groups(
    scored: Sequence[Scored],
    said: npt.NDArray[np.float64],
    flagged: npt.NDArray[np.bool_],
    name: Callable[[Scored], str],
) -> dict[str, Any]:
    names = np.array([name(one) for one in scored])
    positive = np.array([one.positive for one in scored])
    found = {}
    for group in sorted(set(names.tolist()), key=_lower):
        members = names == group
        found[group] = {
            "auc": auc(said[members], positive[members]),
            **_rates(flagged[members], positive[members]),
        }
    return found


def _lower(group: str) -> tuple[float, str]:
    """Sort ranges such as 5-15 by where they begin, words by themselves."""
    first = group.partition("-")[0]
    return (float(first) if first.replace(".", "").isdigit() else 0.0, group)


def _between(value: float, edges: Sequence[float]) -> str:
    for low, high in pairwise(edges):
        if value < high:
            return f"{low:g}-{high:g}"
    return f"{edges[-1]:g}-"


def _volume_error(scored: Sequence[Scored]) -> dict[str, float]:
    """Return the median of marked minus true volume, and of its size, over the studies that bleed."""
    errors = [one.volume_ml - sum(one.truth["volumes"].values()) for one in scored if one.positive]
    if not errors:
        return {}
    return {"median": float(np.median(errors)), "median_size": float(np.median(np.abs(errors)))}


def held_out(
    host: Host, run: Run, operating: Operating, count: int = 40, first: int = 7_000_000
) -> dict[str, Any]:
    """Score a real head that was held out, as it is, disturbed without blood, and with blood laid into it.

    Parameters
    ----------
    host : Host
        A head without bleeding.
    run, operating
        The network, and what was fixed on the validation set.
    count : int
        How many with blood, and how many without: mirrored or turned, with more noise.
    first : int
        Seed of the first.
    """
    plain = _score_volume(host.hu, host, run, {"volumes": {}}, operating.pixels)
    bleeding, clear = [], []
    for seed in range(first, first + count):
        made = implant(host, seed, SHIFTED.lesions)
        rng = np.random.default_rng([seed, 5])
        truth = {"volumes": {str(kind): volume for kind, volume in made.volumes.items()}}
        bleeding.append(_score_volume(_disturbed(made.hu, rng), host, run, truth, operating.pixels))
        clear.append(_score_volume(_disturbed(host.hu, rng), host, run, {"volumes": {}}, operating.pixels))
    every = [*bleeding, *clear]
    positive = [one.positive for one in every]
    flags = np.array([operating.probability(one.logit) >= operating.threshold for one in bleeding])
    return {
        "head": {
            "score": operating.probability(plain.logit),
            "threshold": operating.threshold,
            "flagged": operating.probability(plain.logit) >= operating.threshold,
            "brightness_ml": plain.bright,
            "brightness_flagged": plain.bright >= operating.bright,
        },
        "implanted": {
            "studies": count,
            "auc": asdict(auc_interval([one.logit for one in every], positive)),
            **_rates(
                np.array([operating.probability(one.logit) >= operating.threshold for one in every]),
                np.array(positive),
            ),
            "by_type": {str(kind): _sensitivity(flags, _has(bleeding, str(kind))) for kind in KINDS},
            "brightness_rule": {
                "auc": asdict(auc_interval([one.bright for one in every], positive)),
                **_rates(np.array([one.bright >= operating.bright for one in every]), np.array(positive)),
            },
        },
    }


def _disturbed(hu: npt.NDArray[np.float32], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    noise = rng.standard_normal(hu.shape, np.float32) * np.float32(rng.uniform(0, 8))
    return hu * np.float32(np.exp(rng.normal(0, 0.02))) + noise + np.float32(rng.normal(0, 2))


def _score_volume(
    hu: npt.NDArray[np.float32], host: Host, run: Run, truth: Mapping[str, Any], pixels: int
) -> Scored:
    prepared = prepare_volume(hu, host.planes)
    found = evidence(logits(prepared.hu, run), prepared.plane_ml, pixels)
    bright = brightness(prepared.hu, prepared.plane_ml)
    return Scored(bool(truth["volumes"]), found.study, bright, found.volume_ml, truth)


def shown(one: Mapping[str, Any]) -> str:
    """Return a figure with its interval, for people."""
    return str(Figure(**one))


def _line(one: Mapping[str, Any]) -> str:
    if "value" in one:
        return f"sensitivity {shown(one)}"
    rates = f"sensitivity {shown(one['sensitivity'])}  specificity {shown(one['specificity'])}"
    return rates if math.isnan(one["auc"]) else f"{rates}  AUC {one['auc']:.3f}"


def lines(found: Mapping[str, Any]) -> list[str]:
    """Return a report for people."""
    rule, exact = found["brightness_rule"], found["calibration"]
    made = [
        DEMONSTRATION,
        f"{found['studies']} studies, {found['positives']} with bleeding; 95 % intervals",
        f"{'':22}{'model':34}brightness rule",
        *(
            f"{name:22}{shown(found[name]):34}{shown(rule[name])}"
            for name in ("auc", "sensitivity", "specificity")
        ),
        "PPV at prevalence     " + ", ".join(f"{float(k):.0%}: {v:.2f}" for k, v in found["ppv"].items()),
        f"calibration           Brier {exact['brier']:.3f}, expected error {exact['expected_error']:.3f}",
    ]
    for group, members in found["by"].items():
        made += [f"{group:13} {name:17} {_line(one)}" for name, one in members.items()]
    return made


def read_bundle(folder: Path) -> tuple[bytes, Operating]:
    """Return a bundle's network and what was fixed for it."""
    said = json.loads((folder / "configs/metadata.json").read_bytes())
    return (folder / "models/model.onnx").read_bytes(), Operating.of_metadata(said)


def held_out_lines(found: Mapping[str, Any]) -> list[str]:
    """Return what was found on a real head, for people."""
    head, laid = found["head"], found["implanted"]
    rule = laid["brightness_rule"]
    made = [
        f"real head, held out: score {head['score']:.3f} at threshold {head['threshold']:.3f}:"
        f" {'flagged' if head['flagged'] else 'negative'};"
        f" brightness rule {'flags it' if head['brightness_flagged'] else 'negative'}",
        f"the same head, disturbed, with and without blood laid into it ({laid['studies']} each):",
    ]
    for name in ("auc", "sensitivity", "specificity"):
        made.append(f"{name:22}{shown(laid[name]):34}{shown(rule[name])}")
    return made
