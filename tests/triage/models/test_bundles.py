"""Bundles are data: read with bounds, digested as sha256sum would, never evaluated."""

from __future__ import annotations

import hashlib
import os
import subprocess
import zipfile
from pathlib import Path

import pytest
from bundles_made import bundle, files, metadata

from voxelvault.errors import ArchiveRefused, UsageError, VoxelVaultError
from voxelvault_triage.models.bundle import Bundle, unpacked
from voxelvault_triage.models.card import card_of, shape_fits
from voxelvault_triage.models.reading import read_bundle
from voxelvault_triage.models.sessions import build


def folder(root: Path, found: dict[str, bytes]) -> Path:
    for name, data in found.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def zipped(path: Path, found: dict[str, bytes], top: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in found.items():
            archive.writestr(top + name, data)
    return path


def test_a_folder_and_zips_of_it_are_one_bundle(tmp_path: Path) -> None:
    found = files()
    whole = read_bundle(folder(tmp_path / "a", found))
    assert whole.files == found
    assert read_bundle(zipped(tmp_path / "a.zip", found)).digest == whole.digest
    assert read_bundle(zipped(tmp_path / "b.zip", found, top="bundle/")).digest == whole.digest
    assert unpacked(whole.packed()) == whole
    assert whole.with_file("docs/README.md", b"").digest != whole.digest


def test_the_digest_is_what_sha256sum_says(tmp_path: Path) -> None:
    root = folder(tmp_path, files())
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    said = subprocess.run(["sha256sum", *names], cwd=root, capture_output=True, check=True).stdout
    whole = read_bundle(root)
    assert said == whole.manifest
    assert hashlib.sha256(said).hexdigest() == whole.digest


@pytest.mark.parametrize("name", ["../out", "/etc/passwd", "a/../../b", "a\\..\\b", "c:x", "a//b", ".hidden"])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_bundle(zipped(tmp_path / "a.zip", {**files(), name: b"x"}))
    assert name not in str(caught.value)


def test_links_are_refused(tmp_path: Path) -> None:
    root = folder(tmp_path / "a", files())
    (root / "docs/link").symlink_to("/etc/passwd")
    with pytest.raises(UsageError, match="link"):
        read_bundle(root)
    (root / "docs/link").unlink()
    (root / "more").symlink_to(tmp_path)
    with pytest.raises(UsageError, match="link"):
        read_bundle(root)
    (root / "more").unlink()
    os.mkfifo(root / "docs/pipe")
    with pytest.raises(UsageError, match="device"):
        read_bundle(root)
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        for name, data in files().items():
            archive.writestr(name, data)
        link = zipfile.ZipInfo("docs/link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ArchiveRefused, match="link"):
        read_bundle(tmp_path / "link.zip")


def test_bombs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveRefused):
        read_bundle(zipped(tmp_path / "a.zip", {**files(), "docs/zeros": bytes(64 << 20)}))
    with pytest.raises(ArchiveRefused):
        read_bundle(zipped(tmp_path / "b.zip", {f"docs/{number}": b"" for number in range(2001)}))
    with pytest.raises(UsageError, match="more than"):
        Bundle({f"docs/{number}": b"" for number in range(2001)})
    with pytest.raises(UsageError, match="case"):
        Bundle({**files(), "DOCS/readme.md": b""})


def test_what_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    for place in (tmp_path / "text", tmp_path / "nothing", tmp_path):
        with pytest.raises(UsageError):
            read_bundle(place)
    for broken in (b"", b"[]", b"{" * 100_000, b"\xff"):
        with pytest.raises(UsageError):
            card_of(Bundle({**files(), "configs/metadata.json": broken}))


def test_an_expression_in_a_config_never_runs(tmp_path: Path) -> None:
    witness = tmp_path / "ran"
    evil = f"$__import__('os').system('touch {witness}')"
    card = card_of(bundle(name="evil", description=evil, monai_version=evil))
    assert card.summary == evil
    for definition in (
        {"_target_": evil},
        {"_target_": "UNet", "spatial_dims": evil},
        {"_target_": "os.system"},
    ):
        with pytest.raises(UsageError):
            build(definition)
    assert not witness.exists()


def test_only_networks_of_monai_are_built_of_plain_values() -> None:
    for target in (
        "_private",
        "builtins.exec",
        "monai.bundle.ConfigParser",
        "monai.networks.nets.os",
        "nets",
    ):
        with pytest.raises(UsageError):
            build({"_target_": target})
    with pytest.raises(UsageError, match="fit"):
        build({"_target_": "monai.networks.nets.UNet", "spatial_dims": 2})


def test_the_card_says_what_the_bundle_says() -> None:
    card = card_of(bundle())
    assert (card.name, card.version, card.threshold, card.demonstration) == (
        "small-test-network",
        "0.1.0",
        0.4,
        True,
    )
    (tensor,) = card.inputs
    assert (tensor.name, tensor.channels, tensor.shape, tensor.low, tensor.high) == (
        "image",
        3,
        ("16*n", "16*n"),
        0.0,
        1.0,
    )
    assert "not a medical device" in card.as_mapping()["notice"]
    calibrated = bundle().with_file("configs/calibration.json", b'{"threshold": 0.7, "calibration": null}')
    assert card_of(calibrated).threshold == 0.7
    for own in ({"threshold": 2}, {"pixels": 0}, {"pixels": "many"}):
        with pytest.raises(VoxelVaultError):
            card_of(bundle(voxelvault=own))
    for wrong in (metadata(name=""), metadata(network_data_format=[])):
        with pytest.raises(VoxelVaultError):
            card_of(bundle(**wrong))


@pytest.mark.parametrize(
    ("pattern", "fit", "unfit"),
    [
        (("16*n", "16*n"), (48, 48), (48, 50)),
        (("*", "256"), (7, 256), (7, 255)),
        (("2**p*n", "2**p*n"), (96, 96), (96, 97)),
        (("32",), (32,), (32, 32)),
    ],
)
def test_shapes_are_matched(pattern: tuple[str, ...], fit: tuple[int, ...], unfit: tuple[int, ...]) -> None:
    assert shape_fits(pattern, fit)
    assert not shape_fits(pattern, unfit)
    for wrong in ("__import__('os')", "n.real", "n**n**n**n", "9**99", "m", "(", "n/2"):
        with pytest.raises(UsageError):
            shape_fits((wrong,), (9,))
