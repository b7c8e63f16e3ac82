"""The triage pipeline's network as a task: deterministic, finite, read with its outlines from a vault."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from outlined_heads import outlined_head
from toy_consortium import make_job

import voxelvault
from voxelvault_fl.auditing import Attackable
from voxelvault_fl.cohorts.members import Member
from voxelvault_fl.errors import JobRefused
from voxelvault_fl.jobs.job import Labels
from voxelvault_fl.jobs.task import Turn, weights_digest
from voxelvault_fl.privacy.accounting import Spent, account, terms_of
from voxelvault_fl.privacy.private import PrivateTask, flat_of
from voxelvault_fl.training.examples import Example, SiteData
from voxelvault_fl.training.hemorrhage import Hemorrhage, head, reader, settings
from voxelvault_fl.training.single_heads import SingleHeads, by_plane
from voxelvault_triage.hemorrhage.network import HemorrhageNet
from voxelvault_triage.hemorrhage.preprocess import COLUMNS, ROWS
from voxelvault_triage.training.dataset import Sample

SMALL = {"steps": 2, "planes": 2, "features": [4, 4, 4, 4, 4, 4]}


def sample(sick: bool, seed: int) -> Sample:
    hu = np.random.default_rng(seed).normal(30, 5, (3, ROWS, COLUMNS)).astype(np.int16)
    labels = np.zeros(hu.shape, np.uint8)
    if sick:
        labels[1, 60:90, 60:90] = 1
        hu[labels > 0] = 70
    return Sample(hu, labels, np.full(3, 0.005), {"volumes": {}})


FOUND = [
    Example(Member(f"s{at}", f"p{at}", f"{at:02}"), at % 2 == 1, part)
    for at, part in enumerate(["train", "train", "validate", "validate"])
]


def load(found: Sequence[Example]) -> list[Sample]:
    return [sample(one.positive, int(one.member.order)) for one in found]


def test_a_round_is_the_same_each_time_and_moves_the_weights() -> None:
    task = Hemorrhage(SMALL, load, FOUND)
    start = task.init(3)
    assert weights_digest(start) == weights_digest(Hemorrhage(SMALL, load, ()).init(3))
    before = weights_digest(start)
    one, again = task.train(start, Turn(1, 7)), task.train(start, Turn(1, 7))
    assert weights_digest(start) == before
    assert weights_digest(one.weights) == weights_digest(again.weights) != before
    assert one.examples == 2
    assert all(np.isfinite(w).all() and w.dtype == start[name].dtype for name, w in one.weights.items())
    measured = task.evaluate(one.weights)
    assert set(measured.metrics) == {"loss", "auc"}
    assert np.isfinite(measured.metrics["loss"])


def test_a_proximal_term_holds_the_weights_back() -> None:
    task = Hemorrhage(SMALL, load, FOUND)
    start = task.init(3)

    def moved(proximal: float) -> float:
        made = task.train(start, Turn(1, 7, proximal)).weights
        return float(sum(np.abs(made[name] - start[name]).sum() for name in start))

    assert moved(1000.0) < moved(0.0)


def test_the_rate_falls_from_round_to_round() -> None:
    task = Hemorrhage({**SMALL, "steps": 1, "decay": 0.5}, load, FOUND)
    start = task.init(3)

    def moved(number: int) -> np.ndarray:
        made = task.train(start, Turn(number, 7)).weights
        return np.concatenate([(made[name] - start[name]).ravel() for name in start])

    np.testing.assert_allclose(moved(3), moved(1) / 4, atol=1e-6)
    assert moved(1).any()


@pytest.mark.parametrize(
    "config",
    [{"features": [4, 4]}, {"features": [5] * 6}, {"steps": 0}, {"net": "x"}, {"decay": 0.0}, {"decay": 1.1}],
)
def test_a_configuration_that_can_not_be(config: dict[str, object]) -> None:
    with pytest.raises(JobRefused):
        settings(config)


def test_heads_are_read_with_their_outlines(tmp_path: Path) -> None:
    made = outlined_head(tmp_path / "in", 9001, bleeding=True)
    with voxelvault.create(tmp_path / "vault", purpose="IRB-1", key_file=tmp_path / "key") as vault:
        vault.ingest(tmp_path / "in", progress=False)
        (series,) = vault.select("Modality = 'CT'")
        read = head(series)
        assert set(np.unique(read.labels)) == set(np.unique(made.labels))
        assert read.hu.shape[1:] == (ROWS, COLUMNS)
        with pytest.raises(JobRefused, match="outlines"):
            reader(SiteData(vault), make_job(labels=Labels("table", "hemorrhage")))


def test_a_subject_adds_one_gradient_of_its_own_under_differential_privacy() -> None:
    mine = [Example(Member(f"s{at}", f"p{at // 2}", f"{at:02}"), at % 2 == 1, "train") for at in range(6)]
    task = Hemorrhage(SMALL, load, mine)
    assert isinstance(task, Attackable)
    start = task.init(3)
    flat = flat_of(start)
    count, gradients = task.by_subject()
    rows = gradients(flat, np.array([0, 2]))
    assert (count, rows.shape) == (3, (2, flat.size))
    assert np.isfinite(rows).all()
    losses = task.losses_by_subject(flat)
    assert losses.shape == (3,)
    np.testing.assert_array_equal(losses, task.losses_by_subject(flat))

    terms = terms_of({"epsilon": 8.0, "delta": 1e-3, "clip": 1.0, "rate": 0.5, "steps": 1,
                      "learning_rate": 0.1, "batch": 2}, 1)  # fmt: skip
    charged: list[int] = []

    def charge(round: int) -> Spent:
        charged.append(round)
        return account([terms.noise], 1e-3)

    private = PrivateTask(task, terms, charge, lambda: np.random.default_rng(1))
    done = private.train(start, Turn(1, 7))
    assert (charged, done.examples, dict(done.metrics)) == ([1], 3, {})
    assert done.spent["unit"] == "subject"
    assert weights_digest(done.weights) != weights_digest(start)


def test_a_gradient_is_the_one_that_torch_finds_for_the_plane() -> None:
    torch.manual_seed(2)
    net = HemorrhageNet((4,) * 6)
    weights = {name: one.detach().numpy().copy() for name, one in net.named_parameters()}
    heads = [sample(True, 1), sample(False, 2)]
    found = SingleHeads(net, heads, np.array([0, 1]), np.random.default_rng(5))
    rows = found.gradients()(flat_of(weights), np.array([0, 1]))
    images, targets = SingleHeads(net, heads, np.array([0, 1]), np.random.default_rng(5))._drawn(
        np.array([0, 1])
    )
    for at in range(2):
        net.zero_grad()
        by_plane(net(images[at : at + 1]), targets[at : at + 1]).sum().backward()
        alone = {name: one.grad.numpy() for name, one in net.named_parameters() if one.grad is not None}
        np.testing.assert_allclose(rows[at], flat_of(alone), rtol=1e-3, atol=1e-4)


def test_nothing_of_a_site_travels_besides_what_is_trained() -> None:
    net = HemorrhageNet((4,) * 6)
    assert not list(net.buffers())
    norms = [one for one in net.modules() if "Norm" in type(one).__name__]
    assert norms
    assert {type(one) for one in norms} == {torch.nn.GroupNorm}
