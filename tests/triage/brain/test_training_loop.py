"""Training lowers its loss, is the same for the same seed, goes on where it stopped, and is exported."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_heads import study

from voxelvault.errors import UsageError
from voxelvault_triage.cli.evaluate import shipped
from voxelvault_triage.hemorrhage.preprocess import prepare_labels, prepare_volume
from voxelvault_triage.phantom.bleeds import KINDS, Kind
from voxelvault_triage.training import evaluate
from voxelvault_triage.training.dataset import Plan, Sample, plans
from voxelvault_triage.training.examples import _glow, batch, pool
from voxelvault_triage.training.train import Settings, schedule, train

SMALL = Settings(steps=6, planes=2, features=(8, 8, 8, 8, 8, 8), half=False, keep_every=3)


def sample(seed: int, kind: Kind | None) -> Sample:
    made = study(seed, kind)
    prepared = prepare_volume(made.hu, made.planes)
    truth = {
        "volumes": {str(one): volume for one, volume in made.volumes.items()},
        "thickness": made.thickness,
        "tilt": made.tilt,
        "noise": made.noise,
        "kernel": made.kernel,
        "seed": seed,
    }
    return Sample(
        prepared.hu.astype(np.int16), prepare_labels(made.labels, prepared), prepared.plane_ml, truth
    )


def samples() -> list[Sample]:
    return [sample(11, Kind.INTRAPARENCHYMAL), sample(12, None)]


def trained(
    folder: Path, settings: Settings = SMALL, stop: int | None = None
) -> tuple[dict[str, Any], list[float]]:
    losses: list[float] = []

    class Stopped(Exception):
        pass

    def told(step: int, parts: dict[str, float]) -> None:
        losses.append(sum(parts.values()))
        if step == stop:
            raise Stopped

    try:
        net, _ = train(samples(), settings, folder, told)
    except Stopped:
        return {}, losses
    return net.state_dict(), losses


def test_no_seed_is_in_two_sets_and_none_is_drawn_like_another() -> None:
    sets = plans(300, 100, 200)
    seeds = [seed for one in sets for seed in range(one.first, one.first + one.studies)]
    assert len(set(seeds)) == len(seeds) == 600
    assert len({one.digest for one in sets}) == len(sets)
    *training, validation, test = sets
    for first, second in (*product(training, (validation, test)), (validation, test)):
        assert not _kernels(first) & _kernels(second)
        assert not set(first.recipe.scanners.thickness) & set(second.recipe.scanners.thickness)


def _kernels(plan: Plan) -> set[tuple[float, float]]:
    return {(one.blur, one.cut) for one in plan.recipe.scanners.kernels}


def test_half_of_a_batch_shows_blood_and_it_is_the_same_again() -> None:
    planes = pool(samples())
    made = batch(planes, np.random.default_rng(3), 4)
    again = batch(planes, np.random.default_rng(3), 4)
    assert torch.equal(made.images, again.images)
    shown = made.targets[:, 0].amax((1, 2))
    assert shown[1] == shown[3] == 1
    assert shown[0] == shown[2] == 0
    assert (made.clear >= 0).tolist() == [True, False, True, False]
    assert torch.equal(made.targets[:, 0], made.targets[:, 1:].amax(1))


def test_what_was_mistaken_for_blood_is_drawn_more_often() -> None:
    planes = pool(samples())
    planes.suspicion[:] = 0
    planes.suspicion[2] = 1
    drawn = np.concatenate([batch(planes, np.random.default_rng(k), 8).clear for k in range(10)])
    assert (drawn == 2).sum() > 0.25 * (drawn >= 0).sum()
    assert len(set(drawn.tolist())) > 5


def test_the_rate_goes_up_and_comes_down() -> None:
    rates = [schedule(done) for done in np.linspace(0, 1, 50)]
    assert max(rates) == pytest.approx(1, abs=0.01)
    assert rates[0] < 0.1 > rates[-1]


def test_it_starts_with_the_weights_of_a_bundle(tmp_path: Path) -> None:
    bundle = shipped()
    net, seconds = train(samples(), Settings(1, 2, rate=1e-9), tmp_path, lambda *_: None, bundle)
    for name, values in torch.load(bundle / "models/model.pt", weights_only=True).items():
        torch.testing.assert_close(net.state_dict()[name], values, atol=1e-6, rtol=0)
    assert seconds > 60
    with pytest.raises(UsageError, match="no weights"):
        train(samples(), SMALL, tmp_path / "other", lambda *_: None, tmp_path / "nothing")


def test_bone_brightens_the_cortex_beside_it() -> None:
    hu = np.full((3, 60, 60), 35, np.float32)
    hu[:, :20] = 1000
    glow = np.mean([_glow(hu, np.random.default_rng(k)) for k in range(40)], axis=0)
    assert glow[1, 21, 30] > 3
    assert abs(glow[1, 55, 30]) < 0.1


@pytest.mark.long
def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    whole, losses = trained(tmp_path / "whole")
    _, before = trained(tmp_path / "stopped", stop=4)
    rest, after = trained(tmp_path / "stopped")
    assert len(losses) == 6
    # The checkpoint was of step 3: step 4 is done again.
    assert before[:3] + after == pytest.approx(losses)
    for name, values in whole.items():
        torch.testing.assert_close(rest[name], values)
    with pytest.raises(UsageError, match="other settings"):
        trained(tmp_path / "stopped", Settings(steps=7, planes=2, features=SMALL.features))


@pytest.mark.long
def test_training_lowers_the_loss(tmp_path: Path) -> None:
    _, losses = trained(tmp_path, Settings(steps=40, planes=4, rate=1e-2, features=SMALL.features))
    assert np.mean(losses[-8:]) < 0.8 * np.mean(losses[:8]), losses


@pytest.mark.long
def test_the_command_makes_a_bundle_that_evaluates(tmp_path: Path, run: Callable[..., Any]) -> None:
    words = ["triage", "train", "--cache", tmp_path / "cache", "--out", tmp_path / "run", "--studies", 4]
    made = run(*words, "--validation", 4, "--steps", 2, "--planes", 2, "--json")
    assert made.code == 0, made.err
    bundle = Path(made.json["bundle"])
    said = json.loads((bundle / "configs/metadata.json").read_text())
    assert said["voxelvault"]["demonstration"] is True
    assert "not a medical device" in (bundle / "docs/README.md").read_text()
    found = run(
        "triage",
        "evaluate",
        "--bundle",
        bundle,
        "--cache",
        tmp_path / "cache",
        "--studies",
        4,
        "--note",
        "--json",
    )
    assert found.code == 0, found.err
    assert found.json["studies"] == 4
    assert "specificity" in (bundle / "docs/README.md").read_text().split("shifted set")[1]
    assert set(found.json["by"]["type"]) == {str(kind) for kind in KINDS}
    assert found.json["threshold"] == said["voxelvault"]["threshold"]


def test_figures_of_a_set_and_their_lines() -> None:
    scored = [
        evaluate.Scored(k % 2 == 1, (k % 2) * 3.0 + k / 20, float(k), 9.0, _truth(k)) for k in range(40)
    ]
    operating = evaluate.choose(scored, sensitivity=0.9)
    found = evaluate.report(scored, operating)
    assert found["auc"]["value"] == pytest.approx(1)
    assert found["sensitivity"]["value"] >= 0.9
    assert found["brightness_rule"]["auc"]["value"] < 0.6
    assert found["ppv"]["0.05"] < found["ppv"]["0.2"] or found["specificity"]["value"] == 1
    assert found["by"]["volume_ml"]["2-10"]["count"] == 20
    text = "\n".join(evaluate.lines(found))
    assert "not a medical device" in text
    assert "brightness rule" in text
    assert "tilt_deg" in text


def _truth(k: int) -> dict[str, Any]:
    kind = str(KINDS[k % 5])
    volumes = {kind: 5.0} if k % 2 else {}
    return {"volumes": volumes, "thickness": 5.0, "tilt": 12.0, "noise": 3.0, "kernel": "soft", "seed": k}
