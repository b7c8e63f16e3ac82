"""A vault's models: installed, found, shown, verified, removed; sealed, logged; at the command line."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles_made import SIDE, bundle
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import voxelvault
from voxelvault.errors import IntegrityError, UsageError, VoxelVaultError
from voxelvault_triage import notice
from voxelvault_triage.analysing import runner_for
from voxelvault_triage.models import registry
from voxelvault_triage.models.vouching import PINNED, Vouched
from voxelvault_triage.running.runner import Limits

PIN = Vouched(PINNED)


@pytest.fixture
def vault(tmp_path: Path, configuration: Path) -> Any:
    with voxelvault.create(tmp_path / "vault", key_file=tmp_path / "key") as made:
        yield made


def test_installed_found_run_and_removed(vault: voxelvault.Vault) -> None:
    first = registry.install(vault, bundle(), PIN)
    later = registry.install(vault, bundle(version="0.2.0"), PIN, name=first.name)
    assert registry.find(vault, first.name).digest in (first.digest, later.digest)
    assert registry.find(vault, first.digest[:8]) == first
    model = registry.model_named(vault, first.digest)
    assert (model.digest, model.card["name"]) == (first.digest, "small-test-network")
    assert model.run({"image": np.zeros((1, 3, SIDE, SIDE), np.float32)})["pred"].shape == (1, 2, SIDE, SIDE)
    with pytest.raises(UsageError, match=f"already, as {first.name}"):
        registry.install(vault, bundle(), PIN, name="other")
    registry.remove(vault, later)
    registry.remove(vault, first)
    with pytest.raises(UsageError, match="no such model"):
        registry.find(vault, first.name)
    for name in ("Capital", "-", "a" * 40):
        with pytest.raises(UsageError, match="name"):
            registry.install(vault, bundle(), PIN, name=name)


def test_whose_card_says_demonstration_is_one_wherever_it_was_installed(vault: voxelvault.Vault) -> None:
    named = registry.install(vault, bundle(), PIN)
    other = registry.install(vault, bundle(name="other", voxelvault={"threshold": 0.4}), PIN)
    shipped = registry.find(vault, "head-ct-hemorrhage")
    assert registry.demonstrations(vault) == {named.digest, shipped.digest}
    said = [
        runner_for(vault, "ct-geometry-check", one.digest, Limits())[0].notice
        for one in (named, shipped, other)
    ]
    assert said == [notice.DEMONSTRATION, notice.DEMONSTRATION, notice.SITE]
    assert runner_for(vault, "ct-geometry-check", None, Limits())[0].notice == notice.SITE
    with pytest.raises(UsageError, match="the model's input image has 3 channels, and 5 were given"):
        runner_for(vault, "head-ct-hemorrhage", named.digest, Limits())


def test_sealed_and_logged(vault: voxelvault.Vault) -> None:
    about = registry.install(vault, bundle(), PIN)
    for path in Path(vault.path).rglob("*"):
        assert not (path.is_file() and b"small network" in path.read_bytes())
    said = vault.sql(
        "select kind, digests from audit where kind like 'document%' and outcome = 'ok'"
    ).fetchall()
    assert [kind for kind, _ in said] == ["document.stored"] * 2
    assert all(("about", about.digest) in digests for _, digests in said)


def test_files_that_were_changed_are_not_run(vault: voxelvault.Vault) -> None:
    about, other = registry.install(vault, bundle(), PIN), registry.install(vault, bundle(name="other"), PIN)
    kept = vault.documents(registry.AREA)
    swapped = kept.get(f"{other.digest}/files.zip")
    kept.remove(f"{about.digest}/files.zip")
    kept.put(f"{about.digest}/files.zip", swapped)
    for use in (registry.verify, registry.open_model):
        with pytest.raises(IntegrityError, match="installed"):
            use(vault, about)  # type: ignore[operator]


def test_what_comes_with_the_package_runs_here_calibrated_or_not(vault: voxelvault.Vault) -> None:
    shipped = registry.find(vault, "head-ct-hemorrhage")
    assert shipped.vouched.how == "shipped"
    bundle = registry.bundle_of(vault, shipped)
    assert sum(map(len, bundle.files.values())) < 20 << 20
    here = registry.model_named(vault, shipped.name)
    assert (here.confined, here.card["demonstration"]) == ("", True)
    image = {"image": np.random.default_rng(0).uniform(-1, 1, (2, 5, 192, 160)).astype(np.float32)}
    wanted = here.run(image)["logits"]
    found = registry.model_named(vault, shipped.name, runtime="openvino").run(image)["logits"]
    np.testing.assert_allclose(found, wanted, atol=1e-3)
    calibrated = bundle.with_file("configs/calibration.json", b'{"threshold": 0.5, "calibration": null}')
    made = registry.install(vault, calibrated, PIN, name=shipped.name, based_on=shipped.digest)
    again = registry.model_named(vault, shipped.name)
    assert (again.digest, again.confined, again.card["threshold"]) == (made.digest, "", 0.5)
    for name in ("models/model.onnx", "models/model.pt", "configs/inference.json"):
        assert not registry.is_ours(bundle.with_file(name, b"another"))
    with pytest.raises(UsageError, match="comes with the package"):
        registry.remove(vault, shipped)


def test_a_signed_bundle_at_the_command_line(tmp_path: Path, run: Callable[..., Any]) -> None:
    made, maker = bundle(), Ed25519PrivateKey.generate()
    for name, data in made.files.items():
        (tmp_path / "bundle" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "bundle" / name).write_bytes(data)
    key, signature = tmp_path / "maker.pem", tmp_path / "bundle.sig"
    key.write_bytes(maker.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    signature.write_bytes(maker.sign(made.manifest))
    assert run("init", tmp_path / "vault").code == 0
    words = ("--vault", tmp_path / "vault", "triage", "models", "install", tmp_path / "bundle")
    assert run(*words, "--key", key).code == 2
    assert run(*words, "--key", key, "--signature", signature, "--json").json["vouched"]["how"] == "signed"
    (tmp_path / "bundle" / "docs" / "README.md").write_text("another card")
    refused = run(*words, "--key", key, "--signature", signature)
    assert "signature isn't this key's" in refused.err


def test_at_the_command_line(tmp_path: Path, run: Callable[..., Any]) -> None:
    made, archive = bundle(), tmp_path / "bundle.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for name, data in made.files.items():
            packed.writestr(name, data)
    assert run("init", tmp_path / "vault").code == 0
    keyed = ("--vault", tmp_path / "vault", "triage", "models")
    refused = run(*keyed, "install", archive)
    assert refused.code == 2
    assert made.digest in refused.err
    done = run(*keyed, "install", archive, "--pin", made.digest, "--json")
    assert done.code == 0, done.err
    assert done.json["digest"] == made.digest
    assert "small-test-network" in run(*keyed, "list").out
    shown = run(*keyed, "show", "small-test-network").out
    assert "not a medical device" in shown
    assert "3 channels, 16*n x 16*n pixels, 0 to 1" in shown
    assert "seccomp, limits" in run(*keyed, "verify", made.digest[:10]).out
    assert run(*keyed, "remove", made.digest).code == 2
    assert run(*keyed, "remove", made.digest, "--yes", "--json").json["removed"]
    assert made.digest not in run(*keyed, "list", "--json").out


def test_a_network_that_does_not_load_is_not_taken_in(vault: voxelvault.Vault) -> None:
    garbage = bundle().with_file("models/model.onnx", b"no network")
    with pytest.raises(VoxelVaultError, match="can't be loaded"):
        registry.install(vault, garbage, PIN, name="head-ct-hemorrhage")
    assert registry.find(vault, "head-ct-hemorrhage").vouched.how == "shipped"


def test_what_is_used_what_it_was_made_of_and_what_is_damaged(
    tmp_path: Path, run: Callable[..., Any]
) -> None:
    at = tmp_path / "vault"
    assert run("init", at).code == 0
    keyed = ("--vault", at, "triage", "models")
    with voxelvault.open(at) as vault:
        first = registry.install(vault, bundle(), PIN)
    made = bundle(version="0.2.0")
    for name, data in made.files.items():
        (tmp_path / "bundle" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "bundle" / name).write_bytes(data)
    told = run(*keyed, "install", tmp_path / "bundle", "--pin", made.digest).out
    assert f"instead of 0.1.0, digest {first.digest[:12]}" in told
    with voxelvault.open(at) as vault:
        calibrated = made.with_file("configs/calibration.json", b'{"threshold": 0.5, "calibration": null}')
        last = registry.install(vault, calibrated, PIN, name=first.name, based_on=made.digest)
        vault.documents(registry.AREA).remove(f"{made.digest}/files.zip")
        vault.documents(registry.AREA).put(f"{made.digest}/files.zip", b"no archive")
    rows = [line.split() for line in run(*keyed, "list").out.splitlines() if line.startswith(first.name)]
    assert [row[2:5] for row in rows] == [
        [last.digest[:12], "yes", made.digest[:12]],
        [made.digest[:12], "pinned", rows[1][4]],
        [first.digest[:12], "pinned", rows[2][4]],
    ]
    verified = run(*keyed, "verify")
    assert verified.code == 1
    assert len(verified.out.splitlines()) == 4
    assert verified.out.count("whole; runs") == 3
    assert f"{first.name} {made.digest[:12]}: FAILED: this model's files are damaged" in verified.out
