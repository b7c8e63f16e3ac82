"""A project: its key is its custodians', its ledger opens for two approvers, any two, and only then."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest

import voxelvault as vv
from voxelvault.crypto.hybrid import PrivateKey
from voxelvault.crypto.key_tree import Role
from voxelvault.deid import approving, enrolment
from voxelvault.deid.approver import ApproverKey, ApproverPublic
from voxelvault.deid.approving import ENROL, Approval, Request
from voxelvault.deid.ledger import map_csv, not_held, open_batches, seal_batch
from voxelvault.deid.project import Project, open_project
from voxelvault.deid.project_shelf import FolderShelf, SealedShelf, Shelf, only_project, projects_in
from voxelvault.deid.receipt import verify_release
from voxelvault.deid.stored_project import StoredProject
from voxelvault.errors import (
    IntegrityError,
    KeyUnavailable,
    NewerFormat,
    ObjectExists,
    ObjectMissing,
    UsageError,
)
from voxelvault.storage.objects import LocalObjects, MemoryObjects

CUSTODIAN, OTHER_CUSTODIAN = PrivateKey(bytes([1]) * 32), PrivateKey(bytes([2]) * 32)
ANN, BOB, EVE, STRANGER = (ApproverKey(bytes([number]) * 32) for number in range(10, 14))
MADE = enrolment.make(
    {"custodian": CUSTODIAN.public_key()}, {"ann": ANN.public(), "bob": BOB.public(), "eve": EVE.public()}
)
OPENED = open_project(MADE, CUSTODIAN)
PAIRS = {"patients": {"MRN 1": "P1", "MRN,2": "P2"}, "uids": {"1.2.3": "2.25.1"}}


class VaultKeys:
    """A key ring as far as a shelf goes."""

    vault_id = "0a" * 16

    def keys_of(self, role: Role, /) -> list[str]:
        assert role is Role.PATHS
        return ["0b" * 16]

    def sub_key(self, key_id: str, label: str, /) -> bytes:
        return bytes([7]) * 32


def folder(tmp_path: Path) -> Shelf:
    return FolderShelf(LocalObjects(tmp_path, durable=False))


def in_vault(tmp_path: Path) -> Shelf:
    return SealedShelf(MemoryObjects(), VaultKeys(), MADE.project_id)


@pytest.fixture(params=[folder, in_vault])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> StoredProject:
    shelf: Callable[[Path], Shelf] = request.param
    one = StoredProject(shelf(tmp_path))
    one.create(MADE)
    return one


# The key


def test_a_custodian_opens_the_project_and_gets_the_same_pseudonyms_each_time() -> None:
    again = open_project(Project.from_data(MADE.data()), CUSTODIAN)
    assert again.pseudonyms().patient("s") == OPENED.pseudonyms().patient("s")
    assert again.pseudonyms("export").patient("s") != OPENED.pseudonyms().patient("s")
    assert again.signing_key.public_key().public_bytes_raw() == MADE.signing


def test_nobody_else_opens_it_and_nothing_shows_the_key() -> None:
    with pytest.raises(KeyUnavailable, match="no custodian"):
        open_project(MADE, OTHER_CUSTODIAN)
    assert OPENED.key not in MADE.data()
    assert OPENED.key.hex() not in repr(OPENED)


def test_a_custodian_enrols_another_and_takes_one_off() -> None:
    both = enrolment.add_custodian(MADE, OPENED.key, "second", OTHER_CUSTODIAN.public_key())
    assert open_project(Project.from_data(both.data()), OTHER_CUSTODIAN).key == OPENED.key
    one = enrolment.remove_custodian(both, OPENED.key, "custodian")
    with pytest.raises(KeyUnavailable):
        open_project(one, CUSTODIAN)
    with pytest.raises(UsageError, match="last one"):
        enrolment.remove_custodian(one, OPENED.key, "second")
    with pytest.raises(UsageError, match="already"):
        enrolment.add_custodian(both, OPENED.key, "third", OTHER_CUSTODIAN.public_key())


def test_two_projects_share_nothing() -> None:
    other = open_project(enrolment.make({"custodian": CUSTODIAN.public_key()}), CUSTODIAN)
    assert other.key != OPENED.key
    assert other.pseudonyms().uid("1.2.3.4") != OPENED.pseudonyms().uid("1.2.3.4")


@pytest.mark.parametrize("change", [b'"label":"ann"', b'"label":"custodian"'])
def test_a_changed_document_is_refused(change: bytes) -> None:
    data = MADE.data()
    assert change in data
    with pytest.raises(IntegrityError):
        Project.from_data(data.replace(change, change[:-2] + b"9" + change[-1:]))
    with pytest.raises(NewerFormat):
        Project.from_data(data.replace(b'"format":1', b'"format":2'))
    with pytest.raises(IntegrityError):
        Project.from_data(b"[]")


def test_a_sealed_key_of_another_custodian_or_project_is_refused() -> None:
    other = enrolment.make({"custodian": CUSTODIAN.public_key()})
    mixed = replace(MADE, custodians=other.custodians)
    with pytest.raises(IntegrityError):
        open_project(mixed, CUSTODIAN)


# Approvers


def test_approvers_are_two_at_least_and_different() -> None:
    custodians = {"custodian": CUSTODIAN.public_key()}
    with pytest.raises(UsageError, match="two approvers at least"):
        enrolment.make(custodians, {"ann": ANN.public()})
    with pytest.raises(UsageError, match="one key"):
        enrolment.make(custodians, {"ann": ANN.public(), "bob": ANN.public()})
    mixed = ApproverPublic(BOB.public().sealing, ANN.public().signing)
    with pytest.raises(UsageError, match="one key"):
        enrolment.make(custodians, {"ann": ANN.public(), "bob": mixed})
    with pytest.raises(UsageError, match="label"):
        enrolment.make(custodians, {"Ann Lee": ANN.public(), "bob": BOB.public()})
    with pytest.raises(UsageError, match="custodian"):
        enrolment.make({})


def test_an_approvers_key_is_text_with_a_checksum() -> None:
    assert ApproverKey.from_text(ANN.text()) == ANN
    assert ApproverPublic.from_text(ANN.public().text()) == ANN.public()
    with pytest.raises(KeyUnavailable):
        ApproverKey.from_text(ANN.public().text())
    with pytest.raises(UsageError):
        ApproverPublic.from_text(ANN.public().text()[:-1])
    assert ANN.seed.hex() not in repr(ANN)


# Opening


@pytest.mark.parametrize(
    "pair", list(combinations([ANN, BOB, EVE], 2)), ids=["ann bob", "ann eve", "bob eve"]
)
def test_any_two_approvers_open_the_ledger_together(
    stored: StoredProject, pair: tuple[ApproverKey, ...]
) -> None:
    stored.record(OPENED, PAIRS)
    stored.record(OPENED, {"patients": {"MRN 3": "P3"}})
    asked, private = approving.request(MADE, ["patients", "uids"], "IRB-2031")
    assert stored.ask(asked) == asked.digest
    for key in pair:
        stored.approve(asked.request_id, key)
    maps = stored.reidentify(asked.request_id, private)
    assert maps == {
        "patients": [("MRN 1", "P1"), ("MRN 3", "P3"), ("MRN,2", "P2")],
        "uids": [("1.2.3", "2.25.1")],
    }


def test_only_what_was_asked_for_comes_out(stored: StoredProject) -> None:
    stored.record(OPENED, PAIRS)
    asked, private = approving.request(MADE, ["patients"], "IRB-2031", ["P2"])
    stored.ask(asked)
    for key in (ANN, BOB):
        stored.approve(asked.request_id, key)
    assert stored.reidentify(asked.request_id, private) == {"patients": [("MRN,2", "P2")]}


def test_a_request_is_carried_out_once(stored: StoredProject) -> None:
    asked, private = approving.request(MADE, ["patients"], "IRB-2031")
    stored.ask(asked)
    for key in (ANN, BOB):
        stored.approve(asked.request_id, key)
    stored.reidentify(asked.request_id, private)
    with pytest.raises(UsageError, match="carried out before"):
        stored.reidentify(asked.request_id, private)


def test_one_approver_is_not_enough_even_twice(stored: StoredProject) -> None:
    asked, private = approving.request(MADE, ["patients"], "IRB-2031")
    stored.ask(asked)
    first = stored.approve(asked.request_id, ANN)
    with pytest.raises(ObjectExists):
        stored.approve(asked.request_id, ANN)
    with pytest.raises(KeyUnavailable, match="two different approvers"):
        stored.reidentify(asked.request_id, private)
    again = approving.approve(MADE, asked, ANN)
    with pytest.raises(KeyUnavailable, match="two different approvers"):
        approving.ledger_keys(MADE, asked, private, [first, again])
    # A failed try does not use the request up.
    stored.approve(asked.request_id, BOB)
    assert stored.reidentify(asked.request_id, private) == {"patients": []}


def test_a_stranger_cannot_approve_and_a_custodian_is_a_stranger() -> None:
    asked, _ = approving.request(MADE, ["patients"], "IRB-2031")
    for key in (STRANGER, ApproverKey(CUSTODIAN.seed)):
        with pytest.raises(KeyUnavailable, match="no approver"):
            approving.approve(MADE, asked, key)


def test_an_approval_is_good_for_its_request_alone() -> None:
    asked, _ = approving.request(MADE, ["patients"], "IRB-2031")
    other, private = approving.request(MADE, ["patients"], "IRB-2031")
    replayed = [approving.approve(MADE, asked, key) for key in (ANN, BOB)]
    with pytest.raises(IntegrityError, match="another request"):
        approving.ledger_keys(MADE, other, private, replayed)


@pytest.mark.parametrize(
    "change",
    [{"maps": ("patients", "uids")}, {"pseudonyms": ()}, {"purpose": "IRB-9"}, {"subject": "ab" * 32}],
)
def test_a_changed_scope_needs_new_approvals(change: dict[str, object]) -> None:
    asked, private = approving.request(MADE, ["patients"], "IRB-2031", ["P1"])
    approvals = [approving.approve(MADE, asked, key) for key in (ANN, BOB)]
    with pytest.raises(IntegrityError, match="another request"):
        approving.ledger_keys(MADE, replace(asked, **change), private, approvals)  # type: ignore[arg-type]


def test_a_forged_or_foreign_approval_is_refused() -> None:
    asked, private = approving.request(MADE, ["patients"], "IRB-2031")
    ann, bob = (approving.approve(MADE, asked, key) for key in (ANN, BOB))
    forged = Approval(ann.statement.replace(b"IRB-2031", b"IRB-2032"), ann.signature)
    with pytest.raises(IntegrityError, match="signature"):
        approving.ledger_keys(MADE, asked, private, [forged, bob])
    with pytest.raises(IntegrityError, match="signature"):
        approving.ledger_keys(MADE, asked, private, [Approval(ann.statement, bob.signature), bob])
    twin = enrolment.make({"c": CUSTODIAN.public_key()}, {"ann": ANN.public(), "bob": BOB.public()})
    elsewhere, _ = approving.request(twin, ["patients"], "IRB-2031")
    foreign = approving.approve(twin, elsewhere, ANN)
    with pytest.raises(KeyUnavailable, match="enrolled"):
        approving.ledger_keys(MADE, asked, private, [foreign, bob])
    with pytest.raises(UsageError, match="another project"):
        approving.approve(MADE, elsewhere, ANN)


def test_shares_answer_only_the_requests_own_key() -> None:
    asked, _ = approving.request(MADE, ["patients"], "IRB-2031")
    approvals = [approving.approve(MADE, asked, key) for key in (ANN, BOB)]
    for wrong in (PrivateKey.generate(), CUSTODIAN, ANN.sealing):
        with pytest.raises(IntegrityError):
            approving.ledger_keys(MADE, asked, wrong, approvals)


def test_shares_moved_to_another_pair_or_ledger_do_not_open() -> None:
    twin = enrolment.add_ledger(replace(MADE, ledger=b"", approvers=(), shares=()), OPENED.key,
                              {"ann": ANN.public(), "bob": BOB.public()})  # fmt: skip
    mixed = replace(MADE, shares=twin.shares, approvers=twin.approvers).signed(OPENED.key)
    asked, _ = approving.request(mixed, ["patients"], "IRB-2031")
    with pytest.raises(IntegrityError):
        approving.approve(mixed, asked, ANN)


def test_a_removed_approver_approves_no_more_and_reads_nothing_of_what_comes(stored: StoredProject) -> None:
    stored.record(OPENED, PAIRS)
    asked, private = approving.request(MADE, ["patients"], "IRB-2031")
    stored.ask(asked)
    for key in (ANN, BOB):
        stored.approve(asked.request_id, key)
    without = enrolment.without_approver(MADE, OPENED.key, "ann")
    assert without.ledger != MADE.ledger
    assert Project.from_data(without.data()) == without
    opened = stored.change(OPENED, without)
    with pytest.raises(KeyUnavailable):
        approving.approve(without, asked, ANN)
    with pytest.raises(KeyUnavailable, match="two approvals"):
        stored.reidentify(asked.request_id, private)  # hers counts no more
    stored.record(opened, {"patients": {"MRN 9": "P9"}})
    reading, reader = approving.request(without, ["patients"], "IRB-2031")
    stored.ask(reading)
    for key in (BOB, EVE):
        stored.approve(reading.request_id, key)
    found = dict(stored.reidentify(reading.request_id, reader)["patients"])
    assert (found["MRN 1"], found["MRN 9"]) == ("P1", "P9")
    # With the document as it was, she and another one open what was sealed then, and nothing later.
    said = [approving.approve(MADE, asked, key) for key in (ANN, BOB)]
    secrets = approving.ledger_keys(MADE, asked, private, said)
    assert open_batches(MADE, asked, secrets, [("ab" * 16, seal_batch(OPENED, "ab" * 16, PAIRS))])
    with pytest.raises(IntegrityError):
        open_batches(MADE, asked, secrets, [("ab" * 16, seal_batch(opened, "ab" * 16, PAIRS))])
    with pytest.raises(UsageError, match="two approvers at least"):
        enrolment.without_approver(without, OPENED.key, "bob")
    with pytest.raises(UsageError, match="no such"):
        enrolment.without_approver(without, OPENED.key, "ann")


def test_who_is_enrolled_after_a_removal_reads_all_of_the_ledger(stored: StoredProject) -> None:
    stored.record(OPENED, PAIRS)
    opened = stored.change(OPENED, enrolment.without_approver(MADE, OPENED.key, "ann"))
    stored.record(opened, {"patients": {"MRN 9": "P9"}})
    new = {"dan": STRANGER.public()}
    subject = enrolment.digest_of(new)
    asked, private = approving.request(opened.project, [ENROL], "IRB-2031", subject=subject)
    stored.ask(asked)
    for key in (BOB, EVE):
        stored.approve(asked.request_id, key)
    grown = stored.enrol(opened, asked.request_id, private, new)
    reading, reader = approving.request(grown.project, ["patients"], "IRB-2031")
    stored.ask(reading)
    for key in (STRANGER, EVE):
        stored.approve(reading.request_id, key)
    assert {"MRN 1", "MRN 9"} <= set(dict(stored.reidentify(reading.request_id, reader)["patients"]))


def test_no_pseudonym_is_lost_where_an_id_has_two(stored: StoredProject) -> None:
    """Two people under one id; a file that one release refused and another one has."""
    stored.record(OPENED, {"patients": {"MRN 1": "P1"}, "paths": {"a.dcm": None}})
    stored.record(OPENED, {"patients": {"MRN 1": "P2"}, "paths": {"a.dcm": "DICOM/A"}})
    asked, private = approving.request(MADE, ["patients", "paths"], "IRB-2031")
    stored.ask(asked)
    for key in (ANN, BOB):
        stored.approve(asked.request_id, key)
    found = stored.reidentify(asked.request_id, private)
    assert found["patients"] == [("MRN 1", "P1"), ("MRN 1", "P2")]
    assert map_csv(found["paths"]) == "id_old,id_new\na.dcm,\na.dcm,DICOM/A\n"


def test_further_approvers_are_enrolled_by_two_who_are(stored: StoredProject) -> None:
    stored.record(OPENED, PAIRS)
    new = {"dan": STRANGER.public()}
    asked, private = approving.request(MADE, [ENROL], "IRB-2031", subject=enrolment.digest_of(new))
    stored.ask(asked)
    for key in (ANN, EVE):
        stored.approve(asked.request_id, key)
    with pytest.raises(UsageError, match="not for reading"):
        stored.reidentify(asked.request_id, private)
    with pytest.raises(UsageError, match="something else"):
        stored.enrol(OPENED, asked.request_id, private, {"dan": ApproverKey.generate().public()})
    grown = stored.enrol(OPENED, asked.request_id, private, new)
    assert [one.label for one in stored.read().approvers] == ["ann", "bob", "eve", "dan"]
    reading, reader = approving.request(grown.project, ["patients"], "IRB-2031")
    stored.ask(reading)
    for key in (STRANGER, BOB):
        stored.approve(reading.request_id, key)
    assert dict(stored.reidentify(reading.request_id, reader)["patients"])["MRN 1"] == "P1"


# Requests and the ledger


@pytest.mark.parametrize(
    ("maps", "purpose"),
    [(["names"], "IRB-1"), ([], "IRB-1"), (["patients"], ""), (["patients"], "so what"), ([ENROL], "x")],
)
def test_a_request_says_what_for_and_of_what(maps: list[str], purpose: str) -> None:
    with pytest.raises(UsageError):
        approving.request(MADE, maps, purpose)


def test_requests_and_approvals_travel_as_data() -> None:
    asked, _ = approving.request(MADE, ["patients"], "IRB-2031", ["P2", "P1"])
    approval = approving.approve(MADE, asked, ANN)
    assert Request.from_data(asked.data()) == asked
    assert Approval.from_data(approval.data()) == approval
    assert len(approval.digest) == 64
    for wrong in (b"{}", b"[]", b"\xff", b'{"maps":1}'):
        with pytest.raises(UsageError):
            Request.from_data(wrong)
        with pytest.raises(UsageError):
            Approval.from_data(wrong)


def test_writing_needs_no_approval_and_shows_nothing() -> None:
    sealed = seal_batch(OPENED, "ab" * 16, PAIRS)
    assert b"MRN" not in sealed
    plain = open_project(enrolment.make({"c": CUSTODIAN.public_key()}), CUSTODIAN)
    with pytest.raises(UsageError, match="no ledger"):
        seal_batch(plain, "ab" * 16, PAIRS)
    with pytest.raises(UsageError, match="no ledger"):
        approving.request(plain.project, ["patients"], "IRB-1")
    with pytest.raises(UsageError, match="nothing was written"):
        seal_batch(OPENED, "ab" * 16, {"names": {}})


def test_a_batch_of_another_place_project_or_hand_is_refused() -> None:
    asked, private = approving.request(MADE, ["patients"], "IRB-2031")
    approvals = [approving.approve(MADE, asked, key) for key in (ANN, BOB)]
    secret = approving.ledger_keys(MADE, asked, private, approvals)
    named, _ = approving.request(MADE, ["patients"], "IRB-2031", ["P1"])
    sealed = seal_batch(OPENED, "ab" * 16, PAIRS)
    assert not_held(MADE, named, [("ab" * 16, sealed)]) == 0
    assert open_batches(MADE, asked, secret, [("ab" * 16, sealed)])
    flipped = bytearray(sealed)
    flipped[-80] ^= 1
    forger = replace(OPENED, key=bytes(32))
    wrong = [
        ("cd" * 16, sealed),
        ("ab" * 16, bytes(flipped)),
        ("ab" * 16, sealed[:-9]),
        ("ab" * 16, b""),
        ("ab" * 16, seal_batch(forger, "ab" * 16, PAIRS)),
    ]
    for batch_id, data in wrong:
        with pytest.raises(IntegrityError):
            open_batches(MADE, asked, secret, [(batch_id, data)])
        with pytest.raises(IntegrityError):
            not_held(MADE, named, [(batch_id, data)])


def test_what_a_batch_holds_is_known_without_a_key_but_for_what_stayed_as_it_came() -> None:
    def missing(*pseudonyms: str, maps: tuple[str, ...] = ("patients", "paths")) -> int:
        asked = approving.request(MADE, maps, "IRB-2031", pseudonyms)[0]
        return not_held(MADE, asked, [("ab" * 16, sealed)])

    maps = {"patients": {"MRN 1": "P1", "MRN 2": "MRN 2", "MRN 3": ""}, "paths": {"a": None, "b": "c"}}
    sealed = seal_batch(OPENED, "ab" * 16, maps)
    assert missing() == missing("P1", "c") == 0
    assert missing("MRN 2", "", "P1", "P2") == 3
    assert missing("P1", maps=("uids",)) == 1


def test_maps_are_csv_with_two_columns() -> None:
    assert map_csv(sorted(PAIRS["patients"].items())) == 'id_old,id_new\nMRN 1,P1\n"MRN,2",P2\n'


# Shelves


def test_a_project_is_made_once_and_changed_from_the_version_that_was_opened(stored: StoredProject) -> None:
    with pytest.raises(ObjectExists):
        stored.create(MADE)
    opened = stored.open(CUSTODIAN)
    changed = enrolment.add_custodian(opened.project, opened.key, "second", OTHER_CUSTODIAN.public_key())
    later = stored.change(opened, changed)
    assert stored.open(OTHER_CUSTODIAN).key == later.key
    with pytest.raises(UsageError, match="meanwhile"):
        stored.change(opened, changed)


def test_receipts_are_kept_beside_it_those_of_a_killed_run_replaced(stored: StoredProject) -> None:
    for document in (b"document", b"another" * 40_000):
        stored.keep_receipts("ab" * 16, [document[:9], document[9:]])
        assert stored.shelf.get(f"receipts/{'ab' * 16}")[0] == document


def test_inside_a_vault_nothing_stands_in_clear_and_nothing_moves() -> None:
    objects = MemoryObjects()
    with pytest.raises(ObjectMissing):
        only_project(objects)
    stored = StoredProject(SealedShelf(objects, VaultKeys(), MADE.project_id))
    stored.create(MADE)
    assert only_project(objects) == MADE.project_id
    name = f"projects/{MADE.project_id}/project"
    sealed = objects.get(name)
    assert b"ann" not in sealed
    objects.put(f"projects/{MADE.project_id}/receipts/{'ab' * 16}", [sealed])
    with pytest.raises(IntegrityError):
        stored.shelf.get(f"receipts/{'ab' * 16}")
    objects.put(f"projects/{'cd' * 16}/project", [sealed])
    with pytest.raises(IntegrityError):
        StoredProject(SealedShelf(objects, VaultKeys(), "cd" * 16)).read()
    assert len(projects_in(objects)) == 2
    with pytest.raises(UsageError, match="2 projects"):
        only_project(objects)


def test_what_version_1_stored_still_opens() -> None:
    golden = json.loads((Path(__file__).parents[2] / "golden" / "deid_project.json").read_text())
    stored = Project.from_data(golden["project"].encode())
    pseudonyms = open_project(stored, CUSTODIAN).pseudonyms()
    assert pseudonyms.uid(golden["uid"][0]) == golden["uid"][1]
    assert pseudonyms.patient(golden["patient"][0]) == golden["patient"][1]
    assert pseudonyms.days(golden["days"][0]) == golden["days"][1]
    asked = Request.from_data(golden["request"].encode())
    approvals = [Approval.from_data(one.encode()) for one in golden["approvals"]]
    private = PrivateKey(bytes.fromhex(golden["request_seed"]))
    secret = approving.ledger_keys(stored, asked, private, approvals)
    batch = (golden["batch_id"], bytes.fromhex(golden["batch"]))
    assert open_batches(stored, asked, secret, [batch]) == {"patients": [("MRN 1", "P1")]}
    named = approving.request(stored, ["patients"], "IRB-2031", ["P9"])[0]
    assert not_held(stored, named, [batch]) == 0  # it had no index, so nobody can tell
    found = verify_release(
        golden["receipts"].encode().splitlines(keepends=True), [("a.dcm", b"a")], stored.signing
    )
    assert found.ok
    assert found.refused == 1


def test_a_project_inside_a_real_vault_outlives_a_rotation(tmp_path: Path) -> None:
    with vv.create(tmp_path / "vault", key_file=tmp_path / "key") as vault:
        resources = vault.resources
        stored = StoredProject(SealedShelf(resources.objects, resources.keys, MADE.project_id))
        stored.create(MADE)
        resources.keys.rotate()
        resources.keys.commit()
    with vv.open(tmp_path / "vault", key_file=tmp_path / "key") as vault:
        resources = vault.resources
        assert only_project(resources.objects) == MADE.project_id
        again = StoredProject(SealedShelf(resources.objects, resources.keys, MADE.project_id))
        assert again.open(CUSTODIAN).key == OPENED.key
        assert vault.verify().ok
