"""Key services among the other ways in: looked up by kind, asked last, and never alone in the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint
from types import MappingProxyType

import pytest

from voxelvault.crypto import providers
from voxelvault.crypto.hybrid import PrivateKey
from voxelvault.crypto.keyring import KeyRing
from voxelvault.crypto.providers import KeyServices, Provider, service_kinds, service_named
from voxelvault.crypto.providers.env import EnvProvider
from voxelvault.crypto.providers.key_service import KeyService
from voxelvault.crypto.providers.recovery import RecoveryProvider, new_code
from voxelvault.crypto.vault_record import NewSlot, Slot
from voxelvault.errors import KeyUnavailable, MissingExtra, UsageError, WrongPassphrase
from voxelvault.model import new_id
from voxelvault.storage.objects import MemoryObjects

VAULT, TOML = new_id(), b"format = 1\n"


class Safe:
    """A site's own service: it keeps private keys in a drawer."""

    name = "safe"
    drawer: dict[str, PrivateKey] = {}  # noqa: RUF012
    failure: Exception | None = None
    asked = 0

    def __init__(self, vault_id: str) -> None:
        self.vault_id = vault_id

    def slot(self, key: str, label: str = "", slot_id: str | None = None) -> Slot:
        slot_id = slot_id or new_id()
        self.drawer[slot_id] = private = PrivateKey.generate()
        return Slot(self.name, private.public_key(), label, MappingProxyType({"key": key}), slot_id)

    def unlock(self, slot: Slot) -> PrivateKey | None:
        Safe.asked += 1
        if Safe.failure is not None:
            raise Safe.failure
        return self.drawer.get(slot.slot_id) if slot.provider == self.name else None


class Broken:
    def __init__(self, vault_id: str) -> None:
        raise RuntimeError("pin 1234")


@pytest.fixture(autouse=True)
def added(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add entry points, as an installed package would."""
    Safe.failure, Safe.asked = None, 0
    found = [
        EntryPoint("safe", f"{__name__}:Safe", providers.GROUP),
        EntryPoint("broken", f"{__name__}:Broken", providers.GROUP),
        EntryPoint("gone", "no_such_package_of_a_site:Provider", providers.GROUP),
        # None of ours can be taken over.
        EntryPoint("aws-kms", f"{__name__}:Safe", providers.GROUP),
        EntryPoint("file", f"{__name__}:Safe", providers.GROUP),
    ]

    def entry_points(*, group: str) -> list[EntryPoint]:
        return [entry for entry in found if entry.group == group]

    monkeypatch.setattr(providers, "entry_points", entry_points)


def ring(slots: Sequence[NewSlot]) -> Callable[..., KeyRing]:
    objects = MemoryObjects()
    KeyRing.create(objects, VAULT, TOML, slots)

    def reopen(*ways: Provider) -> KeyRing:
        return KeyRing.open(objects, VAULT, TOML, ways)

    return reopen


def services() -> KeyServices:
    return KeyServices(VAULT, vouched=True)


def env() -> EnvProvider:
    return EnvProvider({"VOXELVAULT_KEY": PrivateKey.generate().text()})


def test_a_sites_own_service_opens_a_vault() -> None:
    reopen = ring([service_named("safe", VAULT).slot("drawer 3", "site")])
    opened = reopen(services())
    assert [(slot.provider, slot.label) for slot in opened.slots()] == [("safe", "site")]
    opened.rotate()
    assert reopen(services()).generation == 2


def test_kinds_are_ours_then_the_sites() -> None:
    assert service_kinds() == ("aws-kms", "pkcs11", "vault-transit", "broken", "gone", "safe")
    assert not isinstance(service_named("aws-kms", VAULT), Safe)
    for kind in ("file", "none"):
        with pytest.raises(UsageError, match="aws-kms, pkcs11, vault-transit, broken, gone, safe"):
            service_named(kind, VAULT)


@pytest.mark.parametrize("kind", service_kinds())
def test_each_of_ours_is_a_key_service(kind: str) -> None:
    made: KeyService = service_named(kind, VAULT)
    assert made.name == kind
    assert made.unlock(Slot("file", b"", slot_id=new_id())) is None


@pytest.mark.parametrize("kind", ["broken", "gone"])
def test_a_provider_that_does_not_load_says_so(kind: str) -> None:
    with pytest.raises(KeyUnavailable, match="reinstall") as error:
        service_named(kind, VAULT)
    assert "1234" not in str(error.value)
    assert error.value.__context__ is None


def test_a_provider_that_fails_keeps_no_other_from_being_asked() -> None:
    laptop = env()
    reopen = ring([service_named("safe", VAULT).slot("x"), laptop.slot()])
    for failure in (KeyUnavailable("down"), MissingExtra("pip install it"), RuntimeError("pin 1234")):
        Safe.failure = failure
        assert reopen(services(), laptop).generation == 1
    with pytest.raises(KeyUnavailable, match="key provider safe failed") as error:
        reopen(services())
    assert "1234" not in str(error.value)


def test_all_that_failed_is_said_in_a_line() -> None:
    reopen = ring([service_named("safe", VAULT).slot("x"), RecoveryProvider(new_code()).slot()])
    Safe.failure = KeyUnavailable("the safe is shut: open it")
    with pytest.raises(KeyUnavailable, match=r"^the safe is shut: open it$"):
        reopen(services())
    with pytest.raises(WrongPassphrase, match=r"replaced by a newer one.*; and the safe is shut: open it$"):
        reopen(RecoveryProvider(new_code()), services())
    Safe.failure = MissingExtra("pip install safe")
    with pytest.raises(MissingExtra, match="pip install"):
        reopen(services())


def test_a_service_is_asked_only_for_slots_of_its_kind() -> None:
    laptop = env()
    ring([laptop.slot()])(laptop, services())
    with pytest.raises(KeyUnavailable, match="no key at hand"):
        ring([laptop.slot()])(services())
    assert Safe.asked == 0


def test_no_service_is_asked_for_a_vault_that_nobody_vouches_for() -> None:
    """Whoever forges a vault can make a slot that everybody's credentials open."""
    reopen = ring([service_named("safe", VAULT).slot("x")])
    with pytest.raises(KeyUnavailable, match="give the fingerprint"):
        reopen(KeyServices(VAULT, vouched=False))
    assert Safe.asked == 0


def test_a_slots_id_is_taken_once() -> None:
    taken = service_named("safe", VAULT).slot("x")
    reopen = ring([taken])
    with pytest.raises(UsageError, match="already"):
        reopen(services()).add_slot(service_named("safe", VAULT).slot("y", slot_id=taken.slot_id))


def test_an_erasure_rolls_a_services_slot() -> None:
    taken = service_named("safe", VAULT).slot("x", "site")
    reopen = ring([taken])
    opened, old = reopen(services()), Safe.drawer[taken.slot_id]
    successor = service_named("safe", VAULT).slot("x", "site", slot_id=taken.slot_id)
    report = opened.destroy([], roll={taken.slot_id: successor})
    assert (report.rolled, report.not_rolled) == ((taken.slot_id,), ())
    assert reopen(services()).slots()[0].public_key != old.public_key()


def test_without_packages_there_are_only_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert service_kinds()[:3] == ("aws-kms", "pkcs11", "vault-transit")
