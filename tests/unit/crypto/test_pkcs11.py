"""PKCS#11, against SoftHSM 2: tokens in a folder of their own, made once."""

from __future__ import annotations

import dataclasses
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from key_servers import dragged_along
from voxelvault.crypto.providers.pkcs11 import MODULE, PIN, Pkcs11Provider
from voxelvault.crypto.vault_record import NewSlot, Slot
from voxelvault.errors import KeyUnavailable, MissingExtra, UsageError
from voxelvault.model import new_id

ROOT, VAULT = os.urandom(32), new_id()
SECRET = "pin-of-the-tests"
LIBRARY = Path("/usr/lib/softhsm/libsofthsm2.so")
URI = "pkcs11:token=vault%20token;object=kek"


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Make two tokens, and keys of each sort in them, as their administrator would."""
    if shutil.which("softhsm2-util") is None or not LIBRARY.exists():
        message = "SoftHSM is missing: apt-get install softhsm2"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    (folder / "conf").write_text(f"directories.tokendir = {folder}/tokens\nlog.level = ERROR\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(folder / "conf"))
        for label in ("vault token", "other"):
            words = ["--init-token", "--free", "--label", label, "--pin", SECRET, "--so-pin", "officer-pin"]
            subprocess.run(["softhsm2-util", *words], check=True, capture_output=True)
        import pkcs11
        from pkcs11 import Attribute, KeyType

        with (
            pkcs11.lib(str(LIBRARY))
            .get_token(token_label="vault token")
            .open(rw=True, user_pin=SECRET) as session
        ):
            for label in ("kek", "twin", "twin"):
                session.generate_key(KeyType.AES, 256, label=label, store=True)
            leaves = {Attribute.SENSITIVE: False, Attribute.EXTRACTABLE: True}
            session.generate_key(KeyType.AES, 256, label="leaves", store=True, template=leaves)
            useless = {Attribute.ENCRYPT: False, Attribute.DECRYPT: False}
            session.generate_key(KeyType.AES, 256, label="useless", store=True, template=useless)
            session.generate_keypair(KeyType.RSA, 2048, label="rsa", store=True)
        yield


@pytest.fixture
def environment(tokens: None) -> dict[str, str]:
    return {MODULE: str(LIBRARY), PIN: SECRET}


@pytest.fixture
def provider(environment: dict[str, str]) -> Pkcs11Provider:
    return Pkcs11Provider(VAULT, environment)


def sealed(slot: NewSlot) -> Slot:
    return slot.seal(ROOT, VAULT, 1)


def opens(provider: Pkcs11Provider, slot: Slot) -> bool:
    key = provider.unlock(slot)
    return key is not None and slot.open(key, VAULT, 1) == ROOT


def test_round_trip(provider: Pkcs11Provider) -> None:
    slot = sealed(provider.slot(URI, "safe"))
    assert (slot.provider, slot.label, slot.parameters["key"]) == ("pkcs11", "safe", URI)
    assert opens(provider, slot)
    assert provider.unlock(dataclasses.replace(slot, provider="file")) is None
    assert SECRET not in repr(slot) + repr(provider)


def test_a_slot_of_another_vault_is_refused(provider: Pkcs11Provider, environment: dict[str, str]) -> None:
    slot = sealed(provider.slot(URI))
    with pytest.raises(KeyUnavailable, match="copied in or changed"):
        Pkcs11Provider(new_id(), environment).unlock(slot)
    other = provider.slot(URI).parameters["wrapped"]
    for change in ({"wrapped": other}, {"wrapped": ""}, {"wrapped": "AAAA"}, {"key": "pkcs11:token=x"}):
        changed = dataclasses.replace(slot, parameters={**slot.parameters, **change})
        with pytest.raises(KeyUnavailable, match="copied in or changed"):
            provider.unlock(changed)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "pkcs11:",
        "pkcs11:token=x",
        "pkcs11:object=x",
        "pkcs11:token=;object=x",
        "pkcs11:token=x;token=y;object=z",
        "pkcs11:token=x;object=y;manufacturer=z",
        "pkcs11:token=x;object=y?pin-value=1234",
        "pkcs11:token=x;object=y?module-path=/tmp/evil.so",
        "pkcs11:token=%ff;object=y",
        "file:token=x;object=y",
    ],
)
def test_only_where_the_key_is_goes_into_a_slot(provider: Pkcs11Provider, uri: str) -> None:
    with pytest.raises(UsageError, match="pkcs11:") as error:
        provider.slot(uri)
    assert "1234" not in str(error.value)


@pytest.mark.parametrize(
    ("uri", "advice"),
    [
        ("pkcs11:token=gone;object=kek", "token is absent"),
        ("pkcs11:serial=0123456789abcdef;object=kek", "token is absent"),
        ("pkcs11:token=vault%20token;object=gone", "no such AES key"),
        ("pkcs11:token=vault%20token;object=rsa", "no such AES key"),
        ("pkcs11:token=vault%20token;id=%01%02", "no such AES key"),
        ("pkcs11:token=vault%20token;object=twin", "more than one"),
        ("pkcs11:token=vault%20token;object=leaves", "sensitive and not extractable"),
        ("pkcs11:token=vault%20token;object=useless", "allow the key"),
    ],
)
def test_each_refusal_says_in_a_line_what_to_do(provider: Pkcs11Provider, uri: str, advice: str) -> None:
    with pytest.raises(KeyUnavailable, match=advice) as error:
        provider.slot(uri)
    assert "\n" not in str(error.value)
    assert SECRET not in dragged_along(error.value)


def test_a_wrong_pin_is_tried_once(provider: Pkcs11Provider, environment: dict[str, str]) -> None:
    slot = sealed(provider.slot(URI))
    environment[PIN] = "nearly-the-pin"
    mistaken = Pkcs11Provider(VAULT, environment)
    with pytest.raises(KeyUnavailable, match="PIN is wrong") as error:
        mistaken.unlock(slot)
    assert "nearly" not in dragged_along(error.value)
    # Right again, but asked no more: a provider that goes on would lock the token.
    environment[PIN] = SECRET
    with pytest.raises(KeyUnavailable, match="PIN is wrong"):
        mistaken.unlock(slot)
    assert opens(Pkcs11Provider(VAULT, environment), slot)


def test_without_a_terminal_no_pin_is_asked_for(
    provider: Pkcs11Provider, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = sealed(provider.slot(URI))
    del environment[PIN]
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(KeyUnavailable, match="no terminal"):
        provider.unlock(slot)


def test_at_a_terminal_the_pin_is_asked_for(
    provider: Pkcs11Provider, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    slot = sealed(provider.slot(URI))
    del environment[PIN]
    monkeypatch.setattr(sys, "stdin", Terminal())
    asked: list[str] = []

    def answer(prompt: str) -> str:
        asked.append(prompt)
        return SECRET

    monkeypatch.setattr("getpass.getpass", answer)
    assert opens(provider, slot)
    assert len(asked) == 1
    assert SECRET not in repr(vars(provider))


def test_a_token_in_use_elsewhere_in_the_process_opens(provider: Pkcs11Provider) -> None:
    import pkcs11

    slot = sealed(provider.slot(URI))
    token = pkcs11.lib(str(LIBRARY)).get_token(token_label="vault token")
    with token.open(user_pin=SECRET):
        assert opens(provider, slot)
    assert opens(provider, slot)


@pytest.mark.parametrize("module", [None, "", "/nowhere/lib.so", "/etc/hostname"])
def test_a_library_that_is_none_says_so(
    provider: Pkcs11Provider, environment: dict[str, str], module: str | None
) -> None:
    slot = sealed(provider.slot(URI))
    environment.pop(MODULE)
    if module is not None:
        environment[MODULE] = module
    with pytest.raises(KeyUnavailable, match=MODULE) as error:
        provider.unlock(slot)
    assert "nowhere" not in str(error.value)


def test_without_the_package_the_extra_is_named(
    provider: Pkcs11Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = sealed(provider.slot(URI))
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    with pytest.raises(MissingExtra, match=r"voxelvault\[pkcs11\]"):
        provider.unlock(slot)


def test_a_token_that_fails_says_so(
    provider: Pkcs11Provider, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import pkcs11

    slot = sealed(provider.slot(URI))

    def fail(*_: Any, **__: Any) -> None:
        raise pkcs11.DeviceError

    monkeypatch.setattr("voxelvault.crypto.providers.pkcs11._session", fail)
    with pytest.raises(KeyUnavailable, match="plug it in again"):
        provider.unlock(slot)
