from __future__ import annotations

import stat
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from voxelvault_fl.consortium import Consortium, Site
from voxelvault_fl.errors import ConsortiumRefused, Expired, KitRefused, RosterForged
from voxelvault_fl.provisioning.authority import (
    Authority,
    admit,
    amend,
    deliver,
    found,
    read_authority,
    revoke,
)
from voxelvault_fl.provisioning.certificates import digest
from voxelvault_fl.provisioning.files import write
from voxelvault_fl.provisioning.kit import read_kit
from voxelvault_fl.provisioning.requests import Reply, accept, ask, reply_of, request_of
from voxelvault_fl.provisioning.roster import open_roster
from voxelvault_fl.provisioning.trial import provision


def _join(authority: Authority, party: str, role: str, kit: Path, now: datetime, days: int = 365) -> Reply:
    reply = admit(authority, ask("heads", party, role, kit), now, days)
    accept(reply_of(reply.to_bytes()), kit)
    return reply


def test_keys_stay_where_they_were_made_and_only_public_ones_travel(
    authority: Authority, tmp_path: Path, now: datetime
) -> None:
    kit = tmp_path / "north"
    reply = _join(authority, "north", "site", kit, now)
    request = (kit / "request.json").read_bytes()
    for name in ("tls.key", "node.key", "signing.key"):
        assert stat.S_IMODE((kit / name).stat().st_mode) == 0o600
        secret = (kit / name).read_text().splitlines()[1]
        assert secret.encode() not in request + reply.to_bytes()
    made = read_kit(kit)
    assert (made.party, made.role, made.consortium.id) == ("north", "site", "heads")
    assert made.entry.certificates == (digest(made.certificate),)
    made.entry.verifying_key().verify(made.keys.signing.sign(b"x"), b"x")


def test_a_trial_has_a_whole_kit_for_each_party_and_all_know_the_same_roster(
    consortium: Consortium, tmp_path: Path, now: datetime
) -> None:
    provision(consortium, tmp_path / "trial", now)
    kits = [read_kit(tmp_path / "trial" / name) for name in ("server", "lead", "north", "south")]
    assert len({kit.roster for kit in kits}) == 1
    assert [party.name for party in kits[0].roster.sites()] == ["north", "south"]
    names = kits[0].certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "server"]


def test_a_request_without_the_keys_it_names_is_refused(
    authority: Authority, tmp_path: Path, now: datetime
) -> None:
    mine = ask("heads", "north", "site", tmp_path / "north")
    other = ask("heads", "south", "site", tmp_path / "south")
    for stolen in (
        replace(mine, node_key=other.node_key),
        replace(mine, signing_key=other.signing_key),
        replace(mine, csr=other.csr),
        replace(mine, party="south"),
    ):
        with pytest.raises(KitRefused, match="not signed with the keys"):
            admit(authority, stolen, now)


@pytest.mark.parametrize(("consortium_id", "party"), [("heads", "nowhere"), ("lungs", "north")])
def test_who_is_not_in_the_consortium_is_not_admitted(
    authority: Authority, tmp_path: Path, now: datetime, consortium_id: str, party: str
) -> None:
    with pytest.raises(KitRefused, match="knows no such party"):
        admit(authority, ask(consortium_id, party, "site", tmp_path / "kit"), now)


def test_a_renewed_certificate_is_good_beside_the_one_before_it(
    authority: Authority, tmp_path: Path, now: datetime
) -> None:
    kit = tmp_path / "north"
    _join(authority, "north", "site", kit, now)
    first = read_kit(kit)
    _join(authority, "north", "site", kit, now + timedelta(days=300))
    second = read_kit(kit)
    assert second.entry.certificates == (digest(second.certificate), digest(first.certificate))
    assert second.entry.signing_key == first.entry.signing_key
    assert not second.roster.revoked
    _join(authority, "north", "site", kit, now + timedelta(days=600))
    assert authority.roster().revoked == (digest(first.certificate),)


def test_new_keys_of_a_party_revoke_what_it_had(authority: Authority, tmp_path: Path, now: datetime) -> None:
    _join(authority, "north", "site", tmp_path / "old", now)
    _join(authority, "north", "site", tmp_path / "new", now)
    old, new = x509_digest(tmp_path / "old"), x509_digest(tmp_path / "new")
    assert authority.roster().party("north").certificates == (new,)
    assert authority.roster().revoked == (old,)
    deliver(authority, tmp_path / "old")
    with pytest.raises(KitRefused, match="revoked"):
        read_kit(tmp_path / "old")


def x509_digest(kit: Path) -> str:
    return digest(x509.load_pem_x509_certificate((kit / "tls.pem").read_bytes()))


def test_the_revoked_is_out_of_the_roster_and_on_the_list(
    authority: Authority, tmp_path: Path, now: datetime
) -> None:
    _join(authority, "north", "site", tmp_path / "north", now)
    _join(authority, "south", "site", tmp_path / "south", now)
    roster = revoke(read_authority(authority.path), "north", now)
    assert [party.name for party in roster.sites()] == ["south"]
    listed = x509.load_pem_x509_crl(authority.revocation_list())
    serial = x509.load_pem_x509_certificate((tmp_path / "north" / "tls.pem").read_bytes()).serial_number
    assert listed.get_revoked_certificate_by_serial_number(serial) is not None
    with pytest.raises(KitRefused, match=r"no party of this name.* admitted are: south"):
        revoke(authority, "north", now)


def test_expiry_is_told_before_and_refused_after(authority: Authority, tmp_path: Path, now: datetime) -> None:
    _join(authority, "north", "site", tmp_path / "north", now, days=60)
    kit = read_kit(tmp_path / "north")
    assert kit.warnings(now) == ()
    assert "expires on 2027-01-29 00:00 UTC" in kit.warnings(now + timedelta(days=50))[0]
    with pytest.raises(Expired, match="has expired"):
        kit.warnings(now + timedelta(days=61))
    with pytest.raises(KitRefused, match="set this machine's clock right"):
        kit.warnings(now - timedelta(days=3))


def test_a_roster_that_the_authority_did_not_sign_is_not_believed(
    authority: Authority, consortium: Consortium, tmp_path: Path, now: datetime
) -> None:
    kit = tmp_path / "north"
    _join(authority, "north", "site", kit, now)
    said = (kit / "roster.json").read_bytes()
    (kit / "roster.json").write_bytes(said.replace(b'"minimum_cohort":10', b'"minimum_cohort":01'))
    with pytest.raises(RosterForged):
        read_kit(kit)
    deliver(found(consortium, tmp_path / "other", now), kit)
    with pytest.raises(RosterForged):
        read_kit(kit)


@pytest.mark.parametrize("at", ["roster.whole", "roster.sig", "roster.json"])
def test_an_authority_that_was_killed_while_it_published_goes_on(
    authority: Authority, tmp_path: Path, now: datetime, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    request = ask("heads", "north", "site", tmp_path / "north")
    before = authority.roster().serial

    def killed(path: Path, content: bytes, **more: bool) -> None:
        if path.name == at:
            raise KeyboardInterrupt
        write(path, content, **more)

    with monkeypatch.context() as patch:
        patch.setattr("voxelvault_fl.provisioning.authority.write", killed)
        with pytest.raises(KeyboardInterrupt):
            admit(authority, request, now)
    again = read_authority(authority.path)
    # Until one of the two files that are given out is new, the roster of before counts.
    assert again.roster().serial == before + (at == "roster.json")
    deliver(again, tmp_path / "server")
    files = ((tmp_path / "server" / name).read_bytes() for name in ("roster.json", "roster.sig"))
    assert open_roster(*files, again.certificate) == again.roster()


def test_a_kit_that_others_can_read_is_refused(authority: Authority, tmp_path: Path, now: datetime) -> None:
    _join(authority, "north", "site", tmp_path / "north", now)
    (tmp_path / "north" / "node.key").chmod(0o644)
    with pytest.raises(KitRefused, match="chmod 600"):
        read_kit(tmp_path / "north")


def test_keys_of_another_kit_are_noticed(authority: Authority, tmp_path: Path, now: datetime) -> None:
    _join(authority, "north", "site", tmp_path / "north", now)
    _join(authority, "south", "site", tmp_path / "south", now)
    (tmp_path / "north" / "signing.key").write_bytes((tmp_path / "south" / "signing.key").read_bytes())
    with pytest.raises(KitRefused, match="other keys"):
        read_kit(tmp_path / "north")


def test_a_kit_is_not_asked_for_under_another_name(tmp_path: Path) -> None:
    with pytest.raises(ConsortiumRefused, match="small letters"):
        ask("heads", "South2!", "site", tmp_path / "south")
    ask("heads", "south", "site", tmp_path / "south")
    before = {one.name: one.read_bytes() for one in (tmp_path / "south").iterdir()}
    with pytest.raises(KitRefused, match="another party's"):
        ask("heads", "north", "site", tmp_path / "south")
    assert {one.name: one.read_bytes() for one in (tmp_path / "south").iterdir()} == before


def test_a_reply_goes_only_into_the_kit_that_asked(
    authority: Authority, tmp_path: Path, now: datetime
) -> None:
    reply = admit(authority, ask("heads", "north", "site", tmp_path / "north"), now)
    ask("heads", "south", "site", tmp_path / "south")
    with pytest.raises(KitRefused, match="not for the keys"):
        accept(reply, tmp_path / "south")
    accept(reply, tmp_path / "north")
    with pytest.raises(KitRefused, match="complete"):
        accept(reply, tmp_path / "north")
    with pytest.raises(KitRefused, match="nothing was asked"):
        accept(reply, tmp_path / "nobody")


def test_a_reply_that_is_wrong_anywhere_leaves_the_kit_as_it_was(
    authority: Authority, consortium: Consortium, tmp_path: Path, now: datetime
) -> None:
    """Whoever sees the request can send a reply first: a kit that works must go on working."""
    kit = tmp_path / "north"
    _join(authority, "north", "site", kit, now)
    reply = admit(authority, ask("heads", "north", "site", kit), now)
    other = found(consortium, tmp_path / "other", now)
    stranger = admit(other, request_of((kit / "request.json").read_bytes()), now)
    before = {one.name: one.read_bytes() for one in kit.iterdir()}
    for wrong in (
        stranger,
        replace(reply, certificate=stranger.certificate),
        replace(reply, roster=stranger.roster),
        replace(reply, roster=stranger.roster, signature=stranger.signature),
        replace(reply, revoked=stranger.revoked),
        replace(reply, revoked=b""),
    ):
        with pytest.raises((KitRefused, RosterForged)):
            accept(wrong, kit)
        assert {one.name: one.read_bytes() for one in kit.iterdir()} == before
        read_kit(kit)
    accept(reply, kit)
    assert x509_digest(kit) in authority.roster().party("north").certificates[:1]


def test_an_authority_is_made_once(authority: Authority, consortium: Consortium, now: datetime) -> None:
    with pytest.raises(KitRefused, match="has an authority already"):
        found(consortium, authority.path, now)


def test_a_changed_file_is_taken_over_unless_somebody_admitted_is_missing(
    authority: Authority, consortium: Consortium, tmp_path: Path, now: datetime
) -> None:
    _join(authority, "north", "site", tmp_path / "north", now)
    more = replace(consortium, sites=(*consortium.sites, Site("west")))
    assert amend(authority, more, now).consortium == more
    _join(authority, "west", "site", tmp_path / "west", now)
    fewer = replace(consortium, sites=(Site("south"), Site("west")))
    with pytest.raises(KitRefused, match="lacks north, who take part; revoke them first"):
        amend(authority, fewer, now)


def test_nonsense_is_no_request_and_no_reply() -> None:
    for reader in (request_of, reply_of):
        for said in (b"", b"[]", b'{"party": 1}', b"\xff"):
            with pytest.raises(KitRefused):
                reader(said)
