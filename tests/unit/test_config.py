"""Settings, default places and pins."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from voxelvault.config import (
    Pin,
    Pins,
    Settings,
    config_home,
    default_key_file,
    default_vault,
    given_checkpoint,
    load_settings,
)
from voxelvault.errors import IntegrityError, NewerFormat, NoPermission, UsageError

ID = "0123456789abcdef" * 2


def test_where_the_configuration_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert config_home({}) == tmp_path / ".config" / "voxelvault"
    assert config_home({"XDG_CONFIG_HOME": "/x"}) == Path("/x/voxelvault")
    assert config_home({"XDG_CONFIG_HOME": "/x", "VOXELVAULT_CONFIG_HOME": "~/own"}) == tmp_path / "own"
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", "/own")
    assert default_key_file(ID) == Path(f"/own/keys/{ID}.key")


def test_no_file_means_no_settings(tmp_path: Path) -> None:
    assert load_settings(tmp_path) == Settings()
    assert load_settings(tmp_path / "none") == Settings()


def test_settings(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(
        f'vault = "~/vault"\nissuer = "clinic"\n'
        f'[sources]\npacs = "{tmp_path}/data"\nct = "{tmp_path}/data/ct"\n'
    )
    settings = load_settings(tmp_path)
    assert settings.vault == "~/vault"
    assert settings.issuer_of(tmp_path / "data" / "a.dcm") == "pacs"
    assert settings.issuer_of(tmp_path / "data" / "ct" / "b") == "ct"
    assert settings.issuer_of(tmp_path / "data2") == "clinic"
    environ = {"VOXELVAULT_CONFIG_HOME": str(tmp_path)}
    assert default_vault(environ) == "~/vault"
    assert default_vault({**environ, "VOXELVAULT": "/other"}) == "/other"


def test_a_source_behind_a_link_is_still_the_source(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    settings = Settings(sources={"pacs": tmp_path / "real"})
    assert settings.issuer_of(tmp_path / "link" / "a.dcm") == "pacs"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("vault = ", "TOML"),
        ("vualt = '/x'", "vualt"),
        ("vault = 3", "quotes"),
        ("sources = '/x'", "sources"),
        ("[sources]\na = 1", "quotes"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(UsageError, match=complaint):
        load_settings(tmp_path)


def test_a_checkpoint_from_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint"
    file.write_text("note — x\n")
    assert given_checkpoint({}) is None
    assert given_checkpoint({"VOXELVAULT_CHECKPOINT": str(file)}) == "note — x\n"
    with pytest.raises(UsageError, match="VOXELVAULT_CHECKPOINT"):
        given_checkpoint({"VOXELVAULT_CHECKPOINT": str(tmp_path / "none")})


def test_a_pin_is_kept_and_private(tmp_path: Path) -> None:
    pins, pin = Pins(tmp_path), Pin(3, "note — x\n", 2)
    assert pins.load(ID) is None
    assert pins.save(ID, pin) == pin
    assert Pins(tmp_path).load(ID) == pin
    assert stat.S_IMODE((tmp_path / "pins" / f"{ID}.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "pins").stat().st_mode) == 0o700
    assert {path.name for path in (tmp_path / "pins").iterdir()} == {f"{ID}.json", f"{ID}.lock"}


def test_a_pin_goes_back_only_when_told_to(tmp_path: Path) -> None:
    pins = Pins(tmp_path)
    pins.save(ID, Pin(5, "five", 2))
    assert pins.save(ID, Pin(3, "three", 4)) == Pin(5, "five", 4)
    assert pins.save(ID, Pin(6, "six", 1)) == Pin(6, "six", 4)
    assert pins.save(ID, Pin(1, "one", 1), go_back=True) == Pin(1, "one", 1) == pins.load(ID)


def test_many_writers_keep_the_newest(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: Pins(tmp_path).save(ID, Pin(i, str(i), 40 - i)), range(40)))
    assert Pins(tmp_path).load(ID) == Pin(39, "39", 40)


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "\x00", '{"format":1}', '{"format":1,"size":"1","checkpoint":"","record_number":1}'],
)
def test_a_damaged_pin_is_never_taken_for_none(tmp_path: Path, text: str) -> None:
    pins = Pins(tmp_path)
    pins.save(ID, Pin(1, "", 1))
    (tmp_path / "pins" / f"{ID}.json").write_text(text)
    with pytest.raises(IntegrityError, match="damaged"):
        pins.load(ID)
    with pytest.raises(IntegrityError, match="damaged"):
        pins.save(ID, Pin(2, "", 1))


def test_a_newer_pin_says_so(tmp_path: Path) -> None:
    pins = Pins(tmp_path)
    pins.save(ID, Pin(1, "", 1))
    (tmp_path / "pins" / f"{ID}.json").write_text('{"format":2}')
    with pytest.raises(NewerFormat):
        pins.load(ID)


def test_a_folder_that_cant_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(NoPermission, match="VOXELVAULT_CONFIG_HOME"):
        Pins(tmp_path).save(ID, Pin(1, "", 1))
