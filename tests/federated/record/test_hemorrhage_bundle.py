"""A finished hemorrhage job's model is installed, verified and run by triage like any other."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from whole_consortium import Whole

import voxelvault
from voxelvault.errors import IntegrityError
from voxelvault.interfaces.cli import main
from voxelvault_fl.cohorts.members import Member
from voxelvault_fl.jobs.job import Model
from voxelvault_fl.record import bundle as bundles
from voxelvault_fl.record.bundle import METADATA, NETWORK, bundle_of, verify_bundle, write_signed
from voxelvault_fl.record.exporting import network_of
from voxelvault_fl.training.examples import Example
from voxelvault_fl.training.hemorrhage import Hemorrhage
from voxelvault_triage.hemorrhage.preprocess import COLUMNS, ROWS
from voxelvault_triage.models.registry import find, shipped
from voxelvault_triage.models.vouching import SIGNED
from voxelvault_triage.phantom.scanner import Scanners
from voxelvault_triage.phantom.studies import practice_heads
from voxelvault_triage.phantom.study import Recipe
from voxelvault_triage.training.dataset import Sample

CONFIG = {"steps": 1, "planes": 2, "features": [4, 4, 4, 4, 4, 4]}
PARTS = ("train",) * 5 + ("validate",) * 5 + ("test",) * 5
COARSE = Recipe(scanners=Scanners(thickness=(5.0,), pixel=(1.0, 1.0), field=(216, 216)))
"""Coarse, so drawn quickly, and within what the pipeline's gate lets in: the network really runs."""


def load(found: Sequence[Example]) -> list[Sample]:
    made = []
    for one in found:
        hu = np.random.default_rng(int(one.member.order)).normal(30, 5, (3, ROWS, COLUMNS)).astype(np.int16)
        labels = np.zeros(hu.shape, np.uint8)
        labels[1, 60:90, 60:90] = one.positive
        made.append(Sample(hu + 40 * labels.astype(np.int16), labels, np.full(3, 0.005), {"volumes": {}}))
    return made


def task(target: float) -> Hemorrhage:
    names = [f"{target:.0f}-{at}" for at in range(len(PARTS))]
    found = [
        Example(Member(name, name, f"{at}"), at % 2 == 1, part)
        for at, (name, part) in enumerate(zip(names, PARTS, strict=True))
    ]
    return Hemorrhage(CONFIG, load, found)


@pytest.fixture(scope="module")
def run_over(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Whole, Path]]:
    folder = tmp_path_factory.mktemp("hemorrhage")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXELVAULT_CONFIG_HOME", str(folder / "configuration"))
        whole = Whole(folder / "all", task, model=Model("hemorrhage", CONFIG), rounds=1)
        assert whole.outcome.status == "finished"
        write_signed(folder, bundle_of(whole.job, 1, whole.weights(1), whole.provenance(1)), whole.server)
        yield whole, folder
        for party in whole.parties.values():
            party.vault.close()


def test_the_network_is_the_one_that_was_trained(run_over: tuple[Whole, Path], tmp_path: Path) -> None:
    whole, folder = run_over
    proved = verify_bundle(folder / "bundle", whole.authority)
    assert (proved.whole, proved.round) == (True, 1)
    said = json.loads((folder / "bundle" / METADATA).read_bytes())
    assert said["voxelvault"] == {
        "pipeline": "head-ct-hemorrhage", "threshold": 0.5, "calibrated": False,
        "federated": {"job": whole.job.digest, "round": 1},
    }  # fmt: skip
    assert said["network_data_format"]["inputs"]["image"]["num_channels"] == 5
    assert "fixed on no site's data" in (folder / "bundle/docs/README.md").read_text()
    (folder / "bundle" / NETWORK).rename(tmp_path / "kept")
    try:
        (folder / "bundle" / NETWORK).write_bytes(network_of(whole.job, whole.weights(0)))
        with pytest.raises(IntegrityError, match="made of the weights"):
            verify_bundle(folder / "bundle", whole.authority)
    finally:
        (tmp_path / "kept").replace(folder / "bundle" / NETWORK)


def test_another_pytorch_writes_networks_in_other_words(
    run_over: tuple[Whole, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, folder = run_over
    with monkeypatch.context() as patch:
        patch.setattr(bundles, "network_of", lambda job, weights: b"other words")
        with pytest.raises(IntegrityError, match="isn't made of"):
            verify_bundle(folder / "bundle", whole.authority)
        patch.setattr("torch.__version__", "99.0.0")
        with pytest.raises(IntegrityError, match="install that"):
            verify_bundle(folder / "bundle", whole.authority)


def test_triage_runs_it_once_it_is_installed_by_the_pipelines_name(
    run_over: tuple[Whole, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    folder = run_over[1]
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "configuration"))
    practice_heads(tmp_path / "in", 2, recipe=COARSE)
    words = ["--vault", str(tmp_path / "vault"), "triage"]
    with voxelvault.create(tmp_path / "vault") as vault:
        vault.ingest(tmp_path / "in", progress=False)
    signed = ["--key", str(folder / "maker.pem"), "--signature", str(folder / "bundle.sig")]
    install = [*words, "models", "install", str(folder / "bundle"), *signed]
    assert main([*install, "--name", "head-ct-hemorrhage"]) == 0
    assert main([*words, "models", "verify"]) == 0
    capsys.readouterr()
    assert main([*words, "run", "--new", "--workers", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["analysed"] == 2
    with voxelvault.open(tmp_path / "vault") as vault:
        mine = find(vault, "head-ct-hemorrhage")
    assert mine.vouched.how == SIGNED
    assert main([*words, "worklist", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {one["model"] for one in listed} == {mine.digest} != {shipped()[0].digest}
