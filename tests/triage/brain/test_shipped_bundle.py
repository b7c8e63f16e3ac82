"""The bundle that ships runs behind the registry's own loader, says what it is, and sees a plain clot."""

from __future__ import annotations

import numpy as np
import pytest
from small_heads import study

from voxelvault_triage.hemorrhage.preprocess import prepare_volume
from voxelvault_triage.hemorrhage.scoring import infer_volume
from voxelvault_triage.models.calibration import calibrator
from voxelvault_triage.models.card import card_of
from voxelvault_triage.models.loaded import LoadedModel, load
from voxelvault_triage.models.registry import shipped_bundle
from voxelvault_triage.phantom.bleeds import Kind
from voxelvault_triage.training.evaluate import Operating

NAME = "head-ct-hemorrhage"


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return load(shipped_bundle(NAME), confined=False)


def test_it_is_small_and_says_what_it_is() -> None:
    bundle = shipped_bundle(NAME)
    card = card_of(bundle)
    assert sum(map(len, bundle.files.values())) < 20e6
    assert card.name == NAME
    assert card.demonstration
    said = bundle.files["docs/README.md"].decode()
    for words in (
        "not a medical device",
        "never seen a patient",
        "voxelvault triage train",
        "brightness rule",
    ):
        assert words in said


def test_it_marks_a_clot_and_leaves_its_own_calibration_to_the_card(model: LoadedModel) -> None:
    card = model.card
    found = []
    for made in (study(11, Kind.INTRAPARENCHYMAL), study(12)):
        prepared = prepare_volume(made.hu, made.planes)
        found.append(infer_volume(prepared, model.run, calibrator(card["calibration"]), card["threshold"]))
        assert found[-1].mask.shape == made.hu.shape
    bleeding, clear = found
    assert bleeding.score > clear.score
    assert bleeding.flagged
    truth = study(11, Kind.INTRAPARENCHYMAL).labels > 0
    assert (bleeding.mask & truth).sum() > 0.3 * truth.sum()


def test_torch_and_openvino_answer_what_onnx_runtime_answers(model: LoadedModel) -> None:
    card = model.card["inputs"][0]
    values = np.random.default_rng(0).uniform(card["low"], card["high"], (2, 5, 192, 160))
    image = {"image": values.astype(np.float32)}
    wanted = model.run(image)["logits"]
    for runtime in ("torch", "openvino"):
        found = load(shipped_bundle(NAME), runtime=runtime, confined=False).run(image)["logits"]
        np.testing.assert_allclose(found, wanted, atol=1e-3, err_msg=runtime)


def test_evaluation_and_runtime_calibrate_alike() -> None:
    bundle = shipped_bundle(NAME)
    operating = Operating.of_metadata(bundle.metadata)
    curve = calibrator(card_of(bundle).calibration)
    for logit in (-5.0, 0.0, 4.0):
        assert operating.probability(logit) == pytest.approx(curve(float(1 / (1 + np.exp(-logit)))))
    assert operating.threshold == card_of(bundle).threshold
