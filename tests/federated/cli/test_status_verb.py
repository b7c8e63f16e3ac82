"""`federated status` names what a person has to look after."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from voxelvault.errors import UsageError
from voxelvault_fl.cli import federated
from voxelvault_fl.cli.status import read_status
from voxelvault_fl.consortium import consortium_of
from voxelvault_fl.provisioning.files import write
from voxelvault_fl.provisioning.kit import read_kit
from voxelvault_fl.provisioning.newest import NewestKit
from voxelvault_fl.provisioning.trial import provision
from voxelvault_fl.rounds.site_state import SiteState
from voxelvault_fl.site.running import Settings, SiteFolder, _Part


def _shown(state: Path) -> str:
    write(state / "processes.json", b"{}")
    made = CliRunner().invoke(federated, ["status", "--state", str(state)], catch_exceptions=False)
    return made.output


@pytest.mark.parametrize(
    "said", [b"", b"{", b"[]", b'{"job": 1}', b'{"job": {"id": "heads-1"}}', b"[" * 10**5]
)
def test_a_damaged_job_of_a_site_is_named(tmp_path: Path, said: bytes) -> None:
    write(tmp_path / "status.json", b'{"role": "site"}')
    write(tmp_path / "jobs" / ("a" * 64) / "job.json", said)
    good = b'{"job": {"consortium": "heads", "id": "heads-2"}}'
    write(tmp_path / "jobs" / ("b" * 64) / "job.json", good)
    shown = _shown(tmp_path).split()
    assert shown[shown.index("a" * 12) :][:3] == ["a" * 12, "damaged", "job.json"]
    assert shown[shown.index("b" * 12) :][:3] == ["b" * 12, "offered", "heads-2"]


def test_what_a_power_cut_left_empty_is_no_fault_of_status(tmp_path: Path) -> None:
    for name in ("status.json", "processes.json"):
        write(tmp_path / name, b"")
    with pytest.raises(UsageError, match="nothing was started"):
        read_status(tmp_path)
    write(tmp_path / "status.json", b'{"role": "site"}')
    assert read_status(tmp_path)["processes"] == {}


def test_a_roster_that_is_not_believed_is_warned_of_until_it_is(tmp_path: Path) -> None:
    heads = {"id": "heads", "name": "H", "server": {"host": "localhost"}, "sites": ["east", "north"]}
    provision(consortium_of(heads), tmp_path / "kits", datetime.now(UTC))
    kit, state = tmp_path / "kits" / "east", tmp_path / "state"
    newest = NewestKit(read_kit(kit), state, lambda why: None)
    part = _Part(Settings(kit, state, lambda port: []), read_kit(kit), newest)
    part.folder = SiteFolder(state)
    whole = (kit / "roster.json").read_bytes()
    for content, warned in ((whole, False), (whole + b" ", True), (whole, False)):
        write(kit / "roster.json", content)
        part._about()
        assert ("the roster in the kit is not believed" in _shown(state)) is warned


def test_a_sites_jobs_are_shown_as_they_stand(tmp_path: Path) -> None:
    write(tmp_path / "status.json", b'{"role": "site"}')
    words = {"a": "approved", "b": "purpose", "c": "waiting"}
    for name, word in words.items():
        folder = tmp_path / "jobs" / (name * 64)
        write(
            folder / "job.json", json.dumps({"job": {"consortium": "heads", "id": f"heads-{name}"}}).encode()
        )
        SiteState(folder, name * 64).decide(word)
    SiteState(tmp_path / "jobs" / ("c" * 64), "c" * 64).stop()
    rows = [line.split() for line in _shown(tmp_path).splitlines()]
    assert ["a" * 12, "approved", "heads-a"] in rows
    assert ["b" * 12, "refused", "purpose", "heads-b"] in rows
    assert ["c" * 12, "stopped", "heads-c"] in rows


def test_a_site_says_once_what_it_hears_of_its_server(tmp_path: Path) -> None:
    heads = {"id": "heads", "name": "H", "server": {"host": "localhost"}, "sites": ["east", "north"]}
    provision(consortium_of(heads), tmp_path / "kits", datetime.now(UTC))
    kit, state, said = tmp_path / "kits" / "east", tmp_path / "state", list[str]()
    newest = NewestKit(read_kit(kit), state, lambda why: None)
    part = _Part(Settings(kit, state, lambda port: []), read_kit(kit), newest, say=said.append)
    part.folder = SiteFolder(state)
    for fault in ("no-connection", "no-connection", "", ""):
        part.contact.heard(fault)
        part._about()
    assert [one.partition(":")[0] for one in said] == [
        "nothing answers at that address",
        "the server answers",
    ]
    assert json.loads((state / "status.json").read_text())["contact"]["answers"] is True
