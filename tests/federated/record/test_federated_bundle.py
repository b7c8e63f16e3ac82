"""A run's model is installed like any other, and verified by itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from whole_consortium import SITES, Whole

import voxelvault
from voxelvault.errors import IntegrityError, UsageError
from voxelvault.interfaces.cli import main
from voxelvault_fl.errors import JobRefused
from voxelvault_fl.jobs.job import Model
from voxelvault_fl.record.bundle import METADATA, NETWORK, WEIGHTS, bundle_of, verify_bundle, write_signed
from voxelvault_fl.record.exporting import network_of


@pytest.fixture(scope="module")
def placed(whole: Whole, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("placed")
    bundle = bundle_of(whole.job, 2, whole.weights(2), whole.provenance(2))
    write_signed(folder, bundle, whole.server)
    return folder


def test_a_bundle_proves_itself(placed: Path, whole: Whole) -> None:
    proved = verify_bundle(placed / "bundle", whole.authority)
    assert proved.whole
    assert proved.round == 2


def test_nothing_is_written_over(placed: Path, whole: Whole) -> None:
    with pytest.raises(UsageError):
        write_signed(placed, bundle_of(whole.job, 2, whole.weights(2), whole.provenance(2)), whole.server)


@pytest.mark.parametrize("name", [WEIGHTS, NETWORK, "docs/provenance.json"])
def test_a_changed_file_is_found_out(placed: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(placed / "bundle", tmp_path / "bundle")
    data = bytearray((tmp_path / "bundle" / name).read_bytes())
    data[-5] ^= 1
    (tmp_path / "bundle" / name).write_bytes(data)
    with pytest.raises(IntegrityError):
        verify_bundle(tmp_path / "bundle")


def test_a_network_of_another_round_is_found_out(placed: Path, tmp_path: Path, whole: Whole) -> None:
    shutil.copytree(placed / "bundle", tmp_path / "bundle")
    (tmp_path / "bundle" / NETWORK).write_bytes(network_of(whole.job, whole.weights(3)))
    with pytest.raises(IntegrityError, match="made of"):
        verify_bundle(tmp_path / "bundle")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda said: said | {"name": "another model"}, "metadata"),
        (lambda said: said | {"intended_use": "Diagnosis."}, "metadata"),
        (lambda said: said | {"voxelvault": said["voxelvault"] | {"threshold": 0.01}}, "metadata"),
        (lambda said: said | {"more": 1}, "metadata"),
        ("configs/inference.json", "inference"),
        ("docs/README.md", "README"),
        ("configs/calibration.json", "no federated run writes"),
    ],
)
def test_what_a_run_did_not_say_of_its_model_is_found_out(
    placed: Path, tmp_path: Path, change: Any, what: str
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(placed / "bundle", bundle)
    if isinstance(change, str):
        (bundle / change).write_text("{}")
    else:
        said = json.loads((bundle / METADATA).read_text())
        (bundle / METADATA).write_text(json.dumps(change(said)))
    with pytest.raises(IntegrityError, match=what):
        verify_bundle(bundle)


def test_other_packages_may_have_written_a_bundle(placed: Path, tmp_path: Path) -> None:
    shutil.copytree(placed / "bundle", tmp_path / "bundle")
    said = json.loads((tmp_path / "bundle" / METADATA).read_text())
    (tmp_path / "bundle" / METADATA).write_text(json.dumps(said | {"numpy_version": "99.0.0"}))
    verify_bundle(tmp_path / "bundle")


def test_a_model_from_elsewhere_has_no_provenance(placed: Path, tmp_path: Path) -> None:
    shutil.copytree(placed / "bundle", tmp_path / "bundle")
    (tmp_path / "bundle/docs/provenance.json").unlink()
    with pytest.raises(IntegrityError, match="no provenance"):
        verify_bundle(tmp_path / "bundle")


def test_the_network_answers_as_the_weights_do(whole: Whole) -> None:
    runtime = pytest.importorskip("onnxruntime")
    weights = {"weight": np.arange(6, dtype=np.float32), "bias": np.array([0.5], np.float32)}
    session = runtime.InferenceSession(network_of(whole.job, weights), providers=["CPUExecutionProvider"])
    inputs = np.random.default_rng(1).normal(size=(4, 6)).astype(np.float32)
    (found,) = session.run(None, {"features": inputs})
    np.testing.assert_allclose(found[:, 0], inputs @ weights["weight"] + 0.5, rtol=1e-5)


def test_a_task_without_export_says_so(whole: Whole) -> None:
    from dataclasses import replace

    with pytest.raises(JobRefused, match="exported"):
        network_of(replace(whole.job, model=Model("other")), whole.weights(1))


def test_triage_installs_it_and_refuses_a_forged_one(
    placed: Path, whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "configuration"))
    voxelvault.create(tmp_path / "vault").close()
    install = [
        *("--vault", str(tmp_path / "vault"), "triage", "models", "install", str(placed / "bundle")),
        *("--key", str(placed / "maker.pem")),
    ]
    (tmp_path / "other.sig").write_bytes(whole.server.sign(b"something else"))
    assert main([*install, "--signature", str(tmp_path / "other.sig")]) == 1
    assert main([*install, "--signature", str(placed / "bundle.sig")]) == 0
    assert main(["--vault", str(tmp_path / "vault"), "triage", "models", "verify"]) == 0
    assert "heads-heads-1" in capsys.readouterr().out


def test_the_verb_says_who_attests_what(placed: Path, tmp_path: Path, whole: Whole, capsys: Any) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_bytes(whole.authority)
    said = ["federated", "verify", str(placed / "bundle")]
    assert main([*said, "--authority", str(authority)]) == 0
    shown = capsys.readouterr().out
    for name in SITES:
        assert f"{name}: rounds 1 to 3; cohort cccccccc" in shown
    assert "not that it computed honestly" in shown
    assert "may reveal images" in shown
    assert main(said) == 0
    assert "compare" in capsys.readouterr().out
