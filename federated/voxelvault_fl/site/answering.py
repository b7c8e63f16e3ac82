"""The executor's process: the site's vault is opened once, then messages are answered."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxelvault.interfaces.cli.command import Session
from voxelvault_fl.errors import JobRefused, KitRefused
from voxelvault_fl.hospital import Outside, now, side
from voxelvault_fl.jobs.app import app_digest
from voxelvault_fl.jobs.policy import PolicyFile, SitePolicy
from voxelvault_fl.jobs.terms import bounded
from voxelvault_fl.processes.bundle import bundle
from voxelvault_fl.processes.lifetime import set_aside
from voxelvault_fl.processes.outgoing import stay_here
from voxelvault_fl.processes.ports import LOOPBACK, listens
from voxelvault_fl.processes.tasks import Runtime
from voxelvault_fl.protection import Protection, ledger_in
from voxelvault_fl.provisioning.files import write
from voxelvault_fl.provisioning.kit import Kit, read_kit
from voxelvault_fl.provisioning.newest import NewestKit, lacks
from voxelvault_fl.record.desk import Desk, desk
from voxelvault_fl.rounds.records import Record
from voxelvault_fl.rounds.site import Keys, Standing
from voxelvault_fl.rounds.site_state import SiteState
from voxelvault_fl.site.clock import Forward
from voxelvault_fl.site.executor import Executor
from voxelvault_fl.site.health import Health
from voxelvault_fl.site.running import SiteFolder
from voxelvault_fl.training.examples import SiteData

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from voxelvault_fl.record.office import Answers

    Log = Callable[[BaseException], None]

_TICK = 0.1


def command(state: Path, port: int) -> list[str]:
    """Return the command of this process, once `write_settings` has written what it reads."""
    return [sys.executable, "-m", __name__, str(state), str(port)]


def write_settings(
    state: Path, session: Session, kit: Path, policy: Path, labels: Path | None, on: str
) -> None:
    """Write what the process needs to know; a passphrase comes by its file or the environment, never here."""
    said = {
        "session": {
            k: None if v is None else v if isinstance(v, bool) else str(v) for k, v in _fields(session)
        },
        "kit": str(kit.resolve()),
        "policy": str(policy.resolve()),
        "labels": None if labels is None else str(labels.resolve()),
        "on": on,
    }
    write(state / "answering.json", json.dumps(said, indent=1).encode(), private=True)


def keys_of(kit: Kit) -> Keys:
    """Return who signs: the site itself, the server and the lead, as the roster says.

    Raises
    ------
    JobRefused
        The rule is ``not-in-roster``: it lacks one of them, so nothing is let in.
    """
    roster, needed = kit.roster, (kit.party, "server", kit.consortium.lead)
    if missing := lacks(roster, *needed):
        raise JobRefused("not-in-roster", missing)
    _, server, lead = map(roster.party, needed)
    return Keys(kit.keys.signing, server.verifying_key(), lead.verifying_key())


def main(arguments: list[str]) -> None:
    """Answer until the process is ended: STATE PORT."""
    folder = SiteFolder(Path(arguments[0]))
    stay_here(folder.calls)
    health = Health(folder.path)
    try:
        _serve(folder, int(arguments[1]), health)
    except Exception as error:
        health.ended(error)
        raise


def _serve(folder: SiteFolder, port: int, health: Health) -> None:
    said = json.loads((folder.path / "answering.json").read_text())
    detailed = detail(folder.path)

    def log(error: BaseException) -> None:
        detailed(error)
        health.failed(error)

    kit = NewestKit(read_kit(Path(said["kit"])), folder.path, lambda why: log(KitRefused(why)))
    policy = PolicyFile(Path(said["policy"]))
    listening = listens(port)
    runtime = Runtime(f"{LOOPBACK}:{port}", folder.secret.read_bytes())
    with _session(said["session"]).open() as vault, desk(folder.record, kit(), app_digest()) as own:
        data = SiteData(vault, Path(said["labels"]) if said["labels"] else None, said["on"])
        answer = answers(kit, folder, policy, data, own, log)
        health.opened(vault.warnings)
        # Its SuperNode starts once this process has its vault.
        while not listening():
            time.sleep(_TICK)
        Executor(runtime, frozenset({bundle().digest}), answer, log).serve(lambda: True)


def answers(
    kit: Callable[[], Kit],
    folder: SiteFolder,
    policy: Callable[[], SitePolicy],
    data: SiteData,
    own: Desk,
    log: Log,
) -> Answers:
    """Return what answers rounds and letters here: with the site's ledger, entered in the site's own log.

    Parameters
    ----------
    kit : callable
        Gives the site's, with the newest roster.
    folder : SiteFolder
        Its state.
    policy : callable
        Gives its own, as it is now.
    data : SiteData
        Its own.
    own : Desk
        Its own.
    log : callable
        Writes an exception where only the site reads it.
    """
    protection = Protection(partial(ledger_in, folder.path), own.book, now)
    outside = Outside(log, own.book.noted, protection.rule, protection.task, Forward(folder.path))

    def standing() -> Standing:
        now = kit()
        terms = now.consortium.terms
        return Standing(keys_of(now), bounded(policy(), terms), terms.site_metrics)

    rules = side(kit().party, folder.path, standing, data, outside)

    def chain(job: str) -> Sequence[Record]:
        state = SiteState(rules.state_folder(job), job)
        # Of a job that somebody here stopped nothing is answered, no attestation either.
        return () if state.stopped else state.chain

    both = own.answers(rules.answer, chain, log)

    def answer(request: bytes) -> bytes:
        own.meet(kit().roster)
        return both(request)

    return answer


def detail(state: Path) -> Log:
    """Return what writes an exception, with all it says, into a file that only the site's account reads.

    The file and the one before it have `LONG` bytes at most, and an exception more.
    """
    path = state / "log" / "detail.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(0o600)

    def log(error: BaseException) -> None:
        set_aside(path)
        with open(path, "a", encoding="utf-8", opener=_own) as file:
            file.write("".join(traceback.format_exception(error)))

    return log


def _own(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _fields(session: Session) -> list[tuple[str, Any]]:
    return list(asdict(session).items())


def _session(said: dict[str, Any]) -> Session:
    files = {
        name: Path(said[name]) if said[name] else None for name in ("passphrase_file", "checkpoint_file")
    }
    return Session(**{**said, **files})


if __name__ == "__main__":
    main(sys.argv[1:])
