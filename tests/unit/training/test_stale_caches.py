"""A cache at hand is looked at again before it is read: nothing old is served, no wish left unheard."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest

import voxelvault as vv
from voxelvault.errors import UsageError
from voxelvault.testing.practice import practice_studies


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "configuration"))
    practice_studies(tmp_path / "in", 2, 6, 16)
    return tmp_path


@pytest.fixture
def vault(room: Path) -> Iterator[vv.Vault]:
    with vv.create(room / "vault") as made:
        made.ingest(room / "in", progress=False)
        yield made


def sent_again(path: Path, change: Any) -> bytes:
    """Return a file whose pixels were changed."""
    file = pydicom.dcmread(path)
    file.PixelData = change(file.PixelData)
    out = io.BytesIO()
    file.save_as(out)
    return out.getvalue()


@pytest.mark.parametrize("which", ["image", "mask"])
def test_a_cache_of_what_was_sent_again_is_refused(vault: vv.Vault, room: Path, which: str) -> None:
    heads = vault.select("Modality = 'CT'")
    cache = heads.cache(None, None, masks="hemorrhage", progress=False)
    with heads.dataset(cache=cache, unmasked="background") as samples:
        assert any(sample["mask"].any() for sample in samples)
    person = room / "in" / "patient-001"
    files = sorted(person.glob("0*.dcm")) if which == "image" else [person / "outline.dcm"]
    (room / "new").mkdir()
    for path in files:
        data = sent_again(
            path, lambda old: b"\1\0" * (len(old) // 2) if which == "image" else bytes(len(old))
        )
        (room / "new" / path.name).write_bytes(data)
    vault.ingest(room / "new", progress=False)
    with pytest.raises(UsageError, match=r"1 of 2 series .*build it again"):
        heads.dataset(cache=cache, unmasked="background")
    again = heads.cache(None, None, masks="hemorrhage", progress=False)
    with (
        heads.dataset(cache=again, unmasked="background") as samples,
        heads.dataset(masks="hemorrhage", unmasked="background") as plain,
    ):
        for sample, want in zip(samples, plain, strict=True):
            assert (sample["image"] == want["image"]).all()
            assert (sample["mask"] == want["mask"]).all()


def test_an_evicted_cache_is_refused(vault: vv.Vault) -> None:
    heads = vault.select("Modality = 'CT'")
    cache = heads.cache(None, None, progress=False)
    vault.evict(everything=True)
    with pytest.raises(UsageError, match="build it again"):
        heads.dataset(cache=cache)


@pytest.mark.parametrize("wish", [{"units": "stored"}, {"stack": 0}, {"fill": -2000.0}])
def test_a_wish_that_the_cache_was_not_built_for_is_refused(vault: vv.Vault, wish: dict[str, Any]) -> None:
    heads = vault.select("Modality = 'CT'")
    cache = heads.cache((2, 2, 2), progress=False)
    [name] = wish
    with pytest.raises(UsageError, match=f"{name}="):
        heads.dataset(cache=cache, **wish)
    built = heads.cache((2, 2, 2), **wish, progress=False)
    with heads.dataset(cache=built, **wish) as samples:
        assert len(samples) == 2
