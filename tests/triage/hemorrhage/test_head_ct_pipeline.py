"""The head CT pipeline from a vault to a finding, with an untrained network in the shipped model's place."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import voxelvault
from heads_made import ct, head
from voxelvault import Vault
from voxelvault.errors import UsageError
from voxelvault_triage.hemorrhage.network import HemorrhageNet
from voxelvault_triage.hemorrhage.pipeline import HeadCtHemorrhage
from voxelvault_triage.model import Finding, Study
from voxelvault_triage.models import registry
from voxelvault_triage.models.bundle import CALIBRATION, INFERENCE, METADATA, Bundle
from voxelvault_triage.models.loaded import load
from voxelvault_triage.models.registry import Installed
from voxelvault_triage.models.vouching import PINNED, Vouched
from voxelvault_triage.pipeline import Model, pipeline_named
from voxelvault_triage.training.export import metadata, to_onnx

PLATT = {"kind": "platt", "slope": 0.5, "intercept": 1.0}
UNEVEN = [4.0] * 13 + [6.0] * 12


def with_blood() -> np.ndarray:
    """A head with 40 ml of fresh blood inside."""
    volume = head()
    z, y, x = np.indices(volume.shape)
    ball = ((z - 12) * 5) ** 2 + ((y - 57) * 2) ** 2 + ((x - 72) * 2) ** 2 < 21**2
    volume[ball] = 68
    return volume


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    folder = tmp_path_factory.mktemp("heads")
    (folder / "in").mkdir()
    for seed, files in enumerate((ct(head(), seed=1), ct(with_blood(), seed=2, tilt=15.0, uneven=UNEVEN))):
        for at, file in enumerate(files):
            (folder / "in" / f"{seed}-{at}.dcm").write_bytes(file)
    with voxelvault.create(folder / "vault", key_file=folder / "key") as made:
        made.ingest(folder / "in", progress=False)
        yield made


def studies(vault: Vault) -> list[Study]:
    rows = vault.sql("select study_id, subject_id, StudyInstanceUID from studies order by 3").fetchall()
    return [Study(*row, "") for row in rows]


def found(vault: Vault, study: Study, model: Model) -> tuple[Finding, int]:
    pipeline = HeadCtHemorrhage()
    gated = pipeline.gate(vault, study)
    assert gated.opened is not None
    with gated.opened as series:
        return pipeline.infer(pipeline.prepare(series, gated.stack), model), len(series)


@pytest.fixture(scope="module")
def untrained(vault: Vault) -> Installed:
    """A network as it is before training: small, and quick."""
    graph = to_onnx(HemorrhageNet((4, 4, 8, 8, 8, 4)))
    said = metadata(0.4, PLATT, 40, {"studies": 0})
    files = {METADATA: json.dumps(said).encode(), "models/model.onnx": graph}
    return registry.install(vault, Bundle(files), Vouched(PINNED), name="untrained")


def test_a_finding_lies_on_the_series_own_grid(vault: Vault, untrained: Installed) -> None:
    model = registry.model_named(vault, untrained.name)
    assert model.confined.startswith("seccomp") or "limits" in model.confined
    assert model.card["demonstration"]
    for study in studies(vault):
        finding, slices = found(vault, study, model)
        assert finding.mask.shape == (slices, 230, 230)
        assert 0 <= finding.score <= 1
        assert finding.threshold == 0.4
        assert 0 <= finding.key_frame < slices
        assert finding.flagged == (finding.score >= finding.threshold)


def test_a_sites_calibration_and_threshold_count(vault: Vault, untrained: Installed) -> None:
    document = {"threshold": 0.01, "calibration": {"kind": "isotonic", "x": [0.0, 1.0], "y": [0.2, 0.3]}}
    bundle = registry.bundle_of(vault, untrained).with_file(CALIBRATION, json.dumps(document).encode())
    made = registry.install(vault, bundle, Vouched(PINNED), name=untrained.name, based_on=untrained.digest)
    model = registry.model_named(vault, untrained.name)
    assert model.digest == made.digest
    finding, _ = found(vault, studies(vault)[0], model)
    assert finding.threshold == 0.01
    assert 0.2 <= finding.score <= 0.3


def test_weights_and_graph_of_the_network_answer_alike(untrained: Installed, vault: Vault) -> None:
    net = HemorrhageNet((4, 4, 8, 8, 8, 4))
    written = io.BytesIO()
    torch.save(net.state_dict(), written)
    said = json.dumps(metadata(0.4, PLATT, 40, {})).encode()
    definition = {
        "_target_": "voxelvault_triage.hemorrhage.network.HemorrhageNet",
        "features": [4, 4, 8, 8, 8, 4],
    }
    weights = Bundle(
        {
            METADATA: said,
            INFERENCE: json.dumps({"network_def": definition}).encode(),
            "models/model.pt": written.getvalue(),
        }
    )
    graph = Bundle({METADATA: said, "models/model.onnx": to_onnx(net)})
    image = {"image": np.random.default_rng(0).uniform(-1, 1, (2, 5, 192, 160)).astype(np.float32)}
    wanted = load(weights, confined=False).run(image)["logits"]
    for runtime in ("onnxruntime", "openvino"):
        answered = load(graph, runtime=runtime, confined=False).run(image)["logits"]
        np.testing.assert_allclose(answered, wanted, atol=1e-4, err_msg=runtime)


def test_the_pipeline_is_found_by_its_name_and_takes_a_model() -> None:
    pipeline = pipeline_named("head-ct-hemorrhage")
    assert isinstance(pipeline, HeadCtHemorrhage)
    with pytest.raises(UsageError, match="takes a model"):
        pipeline.infer(None, None)  # type: ignore[arg-type]


@pytest.mark.shared
def test_a_real_head_is_prepared_whole(shared_dicom: Path, tmp_path: Path) -> None:
    with voxelvault.create(tmp_path / "vault", key_file=tmp_path / "key") as vault:
        vault.ingest(shared_dicom / "neurolabusc+dcm_qa_ct/In/GE", progress=False)
        (study,) = studies(vault)
        pipeline = HeadCtHemorrhage()
        gated = pipeline.gate(vault, study)
        assert gated.opened is not None
        with gated.opened as series:
            prepared = pipeline.prepare(series, gated.stack)
    brain = prepared.hu[14:22, 60:130, 50:110]
    assert (prepared.shape, prepared.hu.shape[1:]) == ((28, 512, 512), (192, 160))
    assert 15 < np.median(brain) < 45
