"""Transit, against a fake of its HTTP API (`key_servers.FakeTransit`): no real server is at hand."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from key_servers import TOKEN, Answers, FakeTransit, dragged_along, serving, transit_errors
from voxelvault.crypto.providers.vault_transit import VaultTransitProvider
from voxelvault.crypto.vault_record import NewSlot, Slot
from voxelvault.errors import KeyUnavailable, UsageError
from voxelvault.model import new_id

ROOT, VAULT = os.urandom(32), new_id()


@pytest.fixture
def fake() -> FakeTransit:
    return FakeTransit()


@pytest.fixture
def server(fake: FakeTransit) -> Iterator[Answers]:
    with serving(Answers(fake)) as running:
        yield running


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def environment(server: Answers) -> dict[str, str]:
    return {"VAULT_ADDR": server.url, "VAULT_TOKEN": TOKEN}


@pytest.fixture
def provider(environment: dict[str, str], pauses: list[float]) -> VaultTransitProvider:
    return VaultTransitProvider(VAULT, environment, pauses.append)


def sealed(slot: NewSlot) -> Slot:
    return slot.seal(ROOT, VAULT, 1)


def opens(provider: VaultTransitProvider, slot: Slot) -> bool:
    key = provider.unlock(slot)
    return key is not None and slot.open(key, VAULT, 1) == ROOT


@pytest.mark.parametrize("name", ["vault", "transit/vault", "kms/eu/vault"])
def test_round_trip(provider: VaultTransitProvider, server: Answers, name: str) -> None:
    slot = sealed(provider.slot(name, "team"))
    assert (slot.provider, slot.label, slot.parameters["key"]) == ("vault-transit", "team", name)
    assert opens(provider, slot)
    assert provider.unlock(dataclasses.replace(slot, provider="file")) is None
    bound = [json.loads(base64.b64decode(json.loads(body)["associated_data"])) for *_, body in server.seen]
    assert bound == [{"vault": VAULT, "slot": slot.slot_id}] * 2


def test_a_derived_key_is_bound_by_its_context(provider: VaultTransitProvider, fake: FakeTransit) -> None:
    fake.derived = True
    slot = sealed(provider.slot("vault"))
    assert opens(provider, slot)
    with pytest.raises(KeyUnavailable, match="copied in or changed"):
        provider.unlock(dataclasses.replace(slot, slot_id=new_id()))


def test_a_slot_of_another_vault_is_refused(
    provider: VaultTransitProvider, environment: dict[str, str]
) -> None:
    slot = sealed(provider.slot("vault"))
    with pytest.raises(KeyUnavailable, match="copied in or changed"):
        VaultTransitProvider(new_id(), environment).unlock(slot)
    changes = [{"wrapped": text} for text in ("%", "AAAA")]
    changes += [{"key": text} for text in ("../../sys/raw/x", "a/../b", "..", "x y")]
    for change in changes:
        changed = dataclasses.replace(slot, parameters={**slot.parameters, **change})
        with pytest.raises(KeyUnavailable, match="copied in or changed"):
            provider.unlock(changed)


def test_a_rotated_key_opens_until_its_version_is_retired(
    provider: VaultTransitProvider, fake: FakeTransit
) -> None:
    slot = sealed(provider.slot("vault"))
    fake.keys["transit", "vault"].append(os.urandom(32))
    assert opens(provider, slot)
    successor = sealed(provider.slot("vault", slot_id=slot.slot_id))
    fake.oldest = 2
    with pytest.raises(KeyUnavailable, match="min_decryption_version"):
        provider.unlock(slot)
    assert opens(provider, successor)
    assert successor.slot_id == slot.slot_id


def test_only_a_name_is_a_name(provider: VaultTransitProvider) -> None:
    for name in ("", "a b", "/x", "https://evil.example.org/x", "x?y", "x/"):
        with pytest.raises(UsageError, match="NAME"):
            provider.slot(name)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_service_is_asked_again_with_growing_pauses(
    provider: VaultTransitProvider, server: Answers, pauses: list[float], status: int
) -> None:
    slot = sealed(provider.slot("vault"))
    server.script += [transit_errors(status, "theirs")] * 4
    assert opens(provider, slot)
    assert pauses == sorted(pauses)
    assert len(pauses) == 4
    asked = len(server.seen)
    server.script += [transit_errors(status, "theirs")] * 50
    with pytest.raises(KeyUnavailable, match="wait a minute") as error:
        provider.unlock(slot)
    assert len(server.seen) - asked == 5
    assert "theirs" not in str(error.value)


@pytest.mark.parametrize(
    ("status", "words", "advice"),
    [
        (403, "permission denied", "renew VAULT_TOKEN"),
        (404, "no handler for route", "no such key"),
        (400, "encryption key not found", "no such key"),
        (400, "unsupported", "aes256-gcm96"),
        (307, "", "active node"),
        (418, "theirs", "none of Transit's"),
    ],
)
def test_each_refusal_says_in_a_line_what_to_do(
    provider: VaultTransitProvider, server: Answers, status: int, words: str, advice: str
) -> None:
    slot = sealed(provider.slot("vault"))
    asked = len(server.seen)
    server.script.append(transit_errors(status, words))
    with pytest.raises(KeyUnavailable, match=advice) as error:
        provider.unlock(slot)
    assert slot.slot_id in str(error.value)
    assert "\n" not in str(error.value)
    assert len(server.seen) == asked + 1, "asked again, or followed a redirection with the token"
    assert TOKEN not in dragged_along(error.value)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"data": {}}', b'{"data": {"plaintext": 7}}'])
def test_an_answer_of_something_else_is_refused(
    provider: VaultTransitProvider, server: Answers, body: bytes
) -> None:
    slot = sealed(provider.slot("vault"))
    server.script.append((200, body))
    with pytest.raises(KeyUnavailable, match="none of Transit's"):
        provider.unlock(slot)


def test_an_outage_says_so(environment: dict[str, str], provider: VaultTransitProvider) -> None:
    slot = sealed(provider.slot("vault"))
    environment["VAULT_ADDR"] = "http://127.0.0.1:9"
    with pytest.raises(KeyUnavailable, match="not reached") as error:
        provider.unlock(slot)
    assert TOKEN not in dragged_along(error.value)


@pytest.mark.parametrize(
    ("change", "advice"),
    [
        ({"VAULT_TOKEN": ""}, "VAULT_TOKEN is not set"),
        ({"VAULT_TOKEN": "two\nlines"}, "one line"),
        ({"VAULT_ADDR": ""}, "VAULT_ADDR is not set"),
        ({"VAULT_ADDR": "https://host:port"}, "VAULT_ADDR is not set"),
        ({"VAULT_ADDR": "ftp://host"}, "VAULT_ADDR is not set"),
        ({"VAULT_ADDR": "http://vault.example.org:8200"}, "no TLS"),
        ({"VAULT_ADDR": "https://127.0.0.1:1", "VAULT_CACERT": "/nowhere"}, "VAULT_CACERT"),
    ],
)
def test_an_environment_that_is_not_right_says_so(
    provider: VaultTransitProvider, environment: dict[str, str], change: dict[str, str], advice: str
) -> None:
    slot = sealed(provider.slot("vault"))
    environment |= change
    with pytest.raises(KeyUnavailable, match=advice):
        provider.unlock(slot)


def test_a_namespace_goes_along(
    provider: VaultTransitProvider, server: Answers, environment: dict[str, str]
) -> None:
    environment["VAULT_NAMESPACE"] = "team-a"
    provider.slot("vault")
    assert server.seen[-1][1]["X-Vault-Namespace"] == "team-a"


def test_a_certificate_that_nobody_trusts_is_refused(
    fake: FakeTransit, tmp_path: Path, pauses: list[float]
) -> None:
    certificate = own_certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    with serving(Answers(fake), tls) as running:
        environment = {"VAULT_ADDR": running.url, "VAULT_TOKEN": TOKEN}
        with pytest.raises(KeyUnavailable, match="VAULT_CACERT"):
            VaultTransitProvider(VAULT, environment, pauses.append).slot("vault")
        assert running.seen == []
        assert pauses == []
        environment["VAULT_CACERT"] = str(certificate)
        trusting = VaultTransitProvider(VAULT, environment, pauses.append)
        assert opens(trusting, sealed(trusting.slot("vault")))


def own_certificate(folder: Path) -> Path:
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "fake")])
    loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([loopback]), False)
        .sign(key, hashes.SHA256())
    )
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "server.pem"
    path.write_bytes(text + made.public_bytes(serialization.Encoding.PEM))
    return path


def test_no_repr_and_no_error_holds_a_secret(provider: VaultTransitProvider) -> None:
    slot = sealed(provider.slot("vault"))
    key = provider.unlock(slot)
    assert key is not None
    with pytest.raises(KeyUnavailable) as error:
        provider.unlock(dataclasses.replace(slot, slot_id=new_id()))
    text = repr(provider) + repr(slot) + dragged_along(error.value)
    for secret in (TOKEN, repr(key.seed), base64.b64encode(key.seed).decode()):
        assert secret not in text
